/* repl.c - the chat: lines -> commands and messages -> answers. Whatever fails, the chat goes on. */
#include "repl.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dropped.h"
#include "interrupt.h"
#include "lineedit.h"

struct repl {
    const struct qvl_options *o;
    struct qvl_ui *ui;
    qvl_model *m;
    qvl_session *s;
    struct qvl_answer answer;
    struct qvl_lineedit *edit;
    char *system;       /* or NULL */
    char **pictures;    /* absolute paths waiting for the next message */
    size_t n_pictures;
    int unanswered;     /* the last message is the user's: its answer failed or was cancelled before it began */
    int has_answer;
    int done;
    char last[512];     /* figures of the last answer */
    unsigned long long n_answers, n_tokens, n_prompt, n_images;
};

static const char help_text[] =
    "  TEXT           ask; pictures dropped into the line are added to the message\n"
    "  \"\"\"            begins and ends a message of several lines\n"
    "  /image FILE    add a picture to the next message\n"
    "  /system TEXT   new system message; without TEXT: none. The conversation stays\n"
    "  /clear         forget the conversation, keep the system message\n"
    "  /retry         answer the last message again\n"
    "  /save FILE     write the conversation as JSON; qvl run --messages reads it\n"
    "  /stats         tokens, times, memory\n"
    "  /help          this list\n"
    "  /quit          leave; Ctrl-D does the same\n"
    "  Ctrl-C         stop the answer; twice: leave\n";

static void out_of_memory(void) { qvl_ui_error("out of memory"); }

/* ---- pictures ---- */

static void drop_pictures(struct repl *r)
{
    for (size_t i = 0; i < r->n_pictures; i++)
        free(r->pictures[i]);
    free(r->pictures);
    r->pictures = NULL;
    r->n_pictures = 0;
}

/* Can the picture be read? The session is left as it was. */
static int try_picture(struct repl *r, const char *path)
{
    qvl_err err = {0};
    qvl_part part = {.kind = QVL_PART_IMAGE_FILE, .data = path, .len = strlen(path)};
    int rc = qvl_session_add(r->s, QVL_ROLE_USER, &part, 1, &err);
    if (rc == 0)
        rc = qvl_session_pop(r->s, 1, &err);
    if (rc < 0)
        qvl_report(r->ui, rc, &err);
    return rc;
}

/* Takes the path, which is from free-able memory. */
static void attach(struct repl *r, char *path)
{
    if (!path || try_picture(r, path) < 0) {
        free(path);
        return;
    }
    char **p = realloc(r->pictures, (r->n_pictures + 1) * sizeof *p);
    if (!p) {
        free(path);
        out_of_memory();
        return;
    }
    r->pictures = p;
    p[r->n_pictures++] = path;
    qvl_ui_note(r->ui, "%s is added to the next message (%zu picture%s)", path, r->n_pictures, r->n_pictures == 1 ? "" : "s");
}

/* ---- answers ---- */

static void generate(struct repl *r)
{
    qvl_result res;
    qvl_err err = {0};
    r->ui->out_last = 0;
    int rc = qvl_answer_generate(&r->answer, r->s, &res, &err);
    r->answer.gen.seed++; /* so that /retry says something new, and a given seed repeats the whole chat */
    qvl_ui_out_end_line(r->ui);
    r->unanswered = rc < 0;
    r->has_answer = rc == 0;
    if (rc == QVL_E_CANCELLED) {
        qvl_ui_note(r->ui, "stopped before the answer began; /retry asks again");
        return;
    }
    if (rc < 0) {
        qvl_report(r->ui, rc, &err);
        return;
    }
    r->n_answers++;
    r->n_tokens += res.n_ids;
    r->n_prompt += res.n_prompt_new;
    r->n_images += res.n_images;
    qvl_answer_figures(r->last, sizeof r->last, &res);
    qvl_ui_note(r->ui, "%s", r->last);
}

/* Adds a message of the pictures that wait and the pieces of the line; 0 when it was added. */
static int add_message(struct repl *r, const struct qvl_pieces *pieces)
{
    qvl_err err = {0};
    size_t n = 0;
    qvl_part *parts = calloc(r->n_pictures + pieces->n, sizeof *parts);
    if (!parts) {
        out_of_memory();
        return -1;
    }
    for (size_t i = 0; i < r->n_pictures; i++)
        parts[n++] = (qvl_part){.kind = QVL_PART_IMAGE_FILE, .data = r->pictures[i], .len = strlen(r->pictures[i])};
    for (size_t i = 0; i < pieces->n; i++)
        parts[n++] = (qvl_part){.kind = pieces->v[i].is_picture ? QVL_PART_IMAGE_FILE : QVL_PART_TEXT,
                                .data = pieces->v[i].text, .len = strlen(pieces->v[i].text)};
    int rc = 0;
    if (r->unanswered) { /* a new question takes the place of the one without an answer */
        rc = qvl_session_pop(r->s, 1, &err);
        r->unanswered = rc < 0;
    }
    if (rc == 0)
        rc = qvl_session_add(r->s, QVL_ROLE_USER, parts, n, &err);
    free(parts);
    if (rc < 0)
        qvl_report(r->ui, rc, &err);
    if (rc < 0 && r->n_pictures)
        qvl_ui_note(r->ui, "the pictures that were waiting are dropped");
    drop_pictures(r);
    return rc;
}

static void ask(struct repl *r, const struct qvl_pieces *pieces)
{
    size_t n_text = 0;
    for (size_t i = 0; i < pieces->n; i++)
        n_text += !pieces->v[i].is_picture;
    if (!n_text) { /* pictures alone: the question follows */
        for (size_t i = 0; i < pieces->n; i++)
            attach(r, strdup(pieces->v[i].text));
        return;
    }
    if (add_message(r, pieces) == 0)
        generate(r);
}

/* ---- commands ---- */

static int add_system(struct repl *r, qvl_err *err)
{
    qvl_part text = {.kind = QVL_PART_TEXT, .data = r->system, .len = r->system ? strlen(r->system) : 0};
    return text.len ? qvl_session_add(r->s, QVL_ROLE_SYSTEM, &text, 1, err) : 0;
}

static void do_clear(struct repl *r)
{
    qvl_err err = {0};
    qvl_session_clear(r->s);
    r->unanswered = r->has_answer = 0;
    drop_pictures(r);
    int rc = add_system(r, &err);
    if (rc < 0)
        qvl_report(r->ui, rc, &err);
}

static int is_system(const json_t *message)
{
    const char *role = json_string_value(json_object_get(message, "role"));
    return role && strcmp(role, "system") == 0;
}

/* The conversation as it stands with another system message in front: taken out as JSON, changed, put back. When it cannot
 * be put back (a picture is gone from the disk) it stays as it was. */
static int rebuild(struct repl *r, const char *system, qvl_err *err)
{
    char *text = NULL, *changed = NULL;
    int rc = qvl_session_messages(r->s, &text, err);
    if (rc < 0)
        return rc;
    json_t *list = json_loads(text, JSON_ALLOW_NUL, NULL);
    if (is_system(json_array_get(list, 0)))
        json_array_remove(list, 0);
    if (system)
        json_array_insert_new(list, 0, json_pack("{s:s, s:s}", "role", "system", "content", system));
    changed = list ? json_dumps(list, 0) : NULL;
    if (!changed)
        rc = QVL_E_NOMEM;
    size_t old = qvl_session_count(r->s);
    if (rc == 0)
        rc = qvl_session_add_json(r->s, changed, strlen(changed), NULL, err); /* behind the old ones first: all or nothing */
    if (rc == 0) {
        qvl_session_clear(r->s);
        rc = qvl_session_add_json(r->s, changed, strlen(changed), NULL, err);
    } else if (qvl_session_count(r->s) > old) {
        qvl_session_pop(r->s, qvl_session_count(r->s) - old, NULL);
    }
    json_decref(list);
    free(changed);
    qvl_free(text);
    return rc;
}

static void do_system(struct repl *r, const char *arg)
{
    qvl_err err = {0};
    char *system = *arg ? strdup(arg) : NULL;
    if (*arg && !system) {
        out_of_memory();
        return;
    }
    int rc = rebuild(r, system, &err);
    if (rc < 0) {
        qvl_report(r->ui, rc, &err);
        free(system);
        return;
    }
    free(r->system);
    r->system = system;
    qvl_ui_note(r->ui, system ? "the system message is set" : "there is no system message");
}

static void do_retry(struct repl *r)
{
    qvl_err err = {0};
    if (!r->unanswered && !r->has_answer) {
        qvl_ui_error("/retry: there is no message to answer");
        return;
    }
    int rc = r->unanswered ? 0 : qvl_session_pop(r->s, 1, &err);
    if (rc < 0)
        qvl_report(r->ui, rc, &err);
    else
        generate(r);
}

/* Written aside and renamed, so that a full disk does not take an older file. */
static int write_file(const char *path, const char *text)
{
    size_t n = strlen(path) + 32;
    struct stat st;
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode)) { /* renaming onto a device would replace it */
        qvl_ui_error("%s: exists and is not a regular file", path);
        return -1;
    }
    char *aside = malloc(n);
    if (!aside) {
        out_of_memory();
        return -1;
    }
    snprintf(aside, n, "%s.%ld", path, (long)getpid());
    FILE *f = fopen(aside, "w");
    int failed = !f || fputs(text, f) < 0 || fputc('\n', f) < 0;
    int why = errno;
    if (f && fclose(f) != 0 && !failed) {
        failed = 1;
        why = errno;
    }
    if (!failed && rename(aside, path) != 0) {
        failed = 1;
        why = errno;
    }
    if (failed) {
        qvl_ui_error("%s: %s", path, strerror(why));
        if (f)
            unlink(aside);
    }
    free(aside);
    return failed ? -1 : 0;
}

static void do_save(struct repl *r, const char *arg)
{
    char *json = NULL, *path, *pretty = NULL;
    qvl_err err = {0};
    if (!*arg) {
        qvl_ui_error("/save: the name of the file is missing");
        return;
    }
    int rc = qvl_session_messages(r->s, &json, &err);
    if (rc < 0) {
        qvl_report(r->ui, rc, &err);
        return;
    }
    json_t *list = json_loads(json, JSON_ALLOW_NUL, NULL);
    pretty = list ? json_dumps(list, JSON_INDENT(2)) : NULL;
    json_decref(list);
    path = qvl_typed_path(arg);
    if (!pretty || !path)
        out_of_memory();
    else if (write_file(path, pretty) == 0)
        qvl_ui_note(r->ui, "%zu messages are in %s", qvl_session_count(r->s), path);
    free(path);
    free(pretty);
    qvl_free(json);
}

static void do_stats(struct repl *r)
{
    uint32_t used, total;
    char peak[32];
    qvl_session_context(r->s, &used, &total);
    fprintf(stderr, "context: %u of %u tokens, %zu messages\n", used, total, qvl_session_count(r->s));
    fprintf(stderr, "so far: %llu answers with %llu tokens, %llu prompt tokens computed, %llu images\n", r->n_answers, r->n_tokens,
            r->n_prompt, r->n_images);
    if (*r->last)
        fprintf(stderr, "last: %s\n", r->last);
    fprintf(stderr, "peak memory: %s\n", qvl_ui_bytes(peak, sizeof peak, qvl_peak_memory()));
}

static void command(struct repl *r, const char *line)
{
    size_t n = strcspn(line, " \t");
    const char *arg = line + n;
    while (isspace((unsigned char)*arg))
        arg++;
#define IS(name) (n == sizeof name - 1 && strncmp(line, name, n) == 0)
    if (IS("/quit") || IS("/exit") || IS("/bye"))
        r->done = 1;
    else if (IS("/help") || IS("/?"))
        fputs(help_text, stderr);
    else if (IS("/image") && !*arg)
        qvl_ui_error("/image: the name of the picture is missing");
    else if (IS("/image"))
        attach(r, qvl_typed_path(arg));
    else if (IS("/system"))
        do_system(r, arg);
    else if (IS("/clear"))
        do_clear(r);
    else if (IS("/retry"))
        do_retry(r);
    else if (IS("/save"))
        do_save(r, arg);
    else if (IS("/stats"))
        do_stats(r);
    else
        qvl_ui_error("unknown command %.40s; /help lists them", line);
#undef IS
}

/* ---- lines ---- */

/* Reads on until a line ends with """; the text is appended to *text. QVL_LINE... */
static int read_block(struct repl *r, char **text, size_t *len)
{
    for (;;) {
        const char *line, *end;
        int rc = qvl_lineedit_read(r->edit, "... ", &line);
        if (rc != QVL_LINE)
            return rc;
        size_t n = strlen(line);
        while (n && isspace((unsigned char)line[n - 1]))
            n--;
        end = n >= 3 && strncmp(line + n - 3, "\"\"\"", 3) == 0 ? line + n - 3 : NULL;
        n = end ? n - 3 : strlen(line);
        char *more = realloc(*text, *len + n + 2);
        if (!more) {
            out_of_memory();
            return QVL_LINE_INTERRUPTED;
        }
        *text = more;
        if (*len)
            more[(*len)++] = '\n';
        memcpy(more + *len, line, n);
        *len += n;
        more[*len] = 0;
        if (end)
            return QVL_LINE;
    }
}

/* A message that begins with """: on one line, or with further lines behind it. */
static int block(struct repl *r, const char *line)
{
    const char *first = line + 3, *end = strstr(first, "\"\"\"");
    size_t len = end ? (size_t)(end - first) : strlen(first);
    char *text = strndup(first, len);
    int rc = text ? QVL_LINE : QVL_LINE_INTERRUPTED;
    if (text && !end)
        rc = read_block(r, &text, &len);
    if (rc == QVL_LINE && len) {
        struct qvl_piece piece = {.text = text};
        qvl_lineedit_remember(r->edit, text);
        ask(r, &(struct qvl_pieces){.v = &piece, .n = 1});
    }
    free(text);
    return rc;
}

/* A path that was dropped begins with "/", too: a command's name has no second one. */
static int is_command(const char *line)
{
    size_t n = strcspn(line, " \t");
    return line[0] == '/' && n > 1 && !memchr(line + 1, '/', n - 1) && access(line, F_OK) != 0;
}

static int one_line(struct repl *r, const char *line)
{
    struct qvl_pieces pieces;
    while (isspace((unsigned char)*line))
        line++;
    if (!*line)
        return QVL_LINE;
    if (strncmp(line, "\"\"\"", 3) == 0)
        return block(r, line);
    qvl_lineedit_remember(r->edit, line);
    if (is_command(line)) {
        command(r, line);
        return QVL_LINE;
    }
    if (qvl_pieces_split(&pieces, line) < 0) {
        out_of_memory();
        return QVL_LINE;
    }
    ask(r, &pieces);
    qvl_pieces_free(&pieces);
    return QVL_LINE;
}

static int chat(struct repl *r)
{
    int interrupted = 0;
    while (!r->done && !r->ui->out_failed) {
        const char *line;
        int rc = qvl_lineedit_read(r->edit, "> ", &line);
        if (rc == QVL_LINE)
            rc = one_line(r, line);
        if (rc == QVL_LINE_END) {
            fputc('\n', stderr);
            break;
        }
        if (rc != QVL_LINE_INTERRUPTED) {
            interrupted = 0;
            continue;
        }
        if (interrupted++) {
            fputc('\n', stderr);
            return QVL_EXIT_INTERRUPTED;
        }
        fputs("\n(Ctrl-C again or Ctrl-D leaves)\n", stderr);
    }
    return QVL_EXIT_OK;
}

int qvl_repl(const struct qvl_options *o, struct qvl_ui *ui, qvl_model *m, qvl_session *s)
{
    struct repl r = {.o = o, .ui = ui, .m = m, .s = s};
    qvl_err err = {0};
    qvl_model_info info = {.struct_size = sizeof info};
    qvl_answer_init(&r.answer, o, ui, m);
    qvl_answer_tell(&r.answer, m, s);
    if (o->system && !(r.system = strdup(o->system))) {
        out_of_memory();
        return QVL_EXIT_MEMORY;
    }
    r.edit = qvl_lineedit_open();
    int status = r.edit ? QVL_EXIT_OK : QVL_EXIT_ERROR, rc = 0;
    if (!r.edit)
        qvl_ui_error("a chat needs a terminal; give the question with -p");
    else if ((rc = add_system(&r, &err)) < 0)
        status = qvl_report(ui, rc, &err);
    else {
        if (qvl_model_get_info(m, &info, NULL) == 0)
            qvl_ui_note(ui, "%s · %s · %s · /help lists the commands, Ctrl-D leaves", info.name, info.precision, info.cpu);
        for (size_t i = 0; i < o->images.n; i++) {
            char *path = realpath(o->images.v[i], NULL);
            attach(&r, path ? path : strdup(o->images.v[i]));
        }
        status = qvl_ui_close_out(ui, chat(&r));
    }
    qvl_interrupt_watch(NULL);
    qvl_lineedit_close(&r.edit);
    drop_pictures(&r);
    free(r.system);
    return status;
}
