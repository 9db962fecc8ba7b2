/* cmd_run.c - qvl run: options -> conversation -> one answer, or a chat. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "answer.h"
#include "interrupt.h"
#include "repl.h"

/* What the request is made of, read before the model is opened. */
struct request {
    char *prompt;  /* from free-able memory, or NULL */
    size_t prompt_len;
    char *messages;
    size_t messages_len;
    char *base_dir; /* of the messages file, NULL = here */
    int chat;
};

static void request_free(struct request *q)
{
    free(q->prompt);
    free(q->messages);
    free(q->base_dir);
}

static int usage_error(const char *text)
{
    qvl_ui_error("%s (see qvl run --help)", text);
    return QVL_EXIT_USAGE;
}

/* Standard input can be one thing only. */
static int check_stdin(const struct qvl_options *o)
{
    int users = (o->prompt && strcmp(o->prompt, "-") == 0) + (o->messages && strcmp(o->messages, "-") == 0);
    for (size_t i = 0; i < o->images.n; i++)
        users += strcmp(o->images.v[i], "-") == 0;
    if (users > 1)
        return usage_error("standard input was asked for more than once");
    if (users && !o->prompt && !o->messages)
        return usage_error("the picture comes from standard input: the question has to be given with -p");
    return 0;
}

static int read_prompt(struct request *q, const struct qvl_options *o)
{
    int from_stdin = o->prompt ? strcmp(o->prompt, "-") == 0 : !o->messages;
    if (from_stdin) {
        int rc = qvl_read_text(&q->prompt, &q->prompt_len, "-");
        if (rc)
            return rc;
        if (q->prompt_len && q->prompt[q->prompt_len - 1] == '\n') /* the line feed that echo adds */
            q->prompt_len--;
        if (q->prompt_len && q->prompt[q->prompt_len - 1] == '\r')
            q->prompt_len--;
        q->prompt[q->prompt_len] = 0;
        if (!q->prompt_len && !(o->prompt && o->images.n))
            return usage_error("no question: -p is missing and standard input is empty");
    } else if (o->prompt) {
        q->prompt = strdup(o->prompt);
        q->prompt_len = strlen(o->prompt);
        if (!q->prompt) {
            qvl_ui_error("out of memory");
            return QVL_EXIT_MEMORY;
        }
        if (!q->prompt_len && !o->images.n)
            return usage_error("the question is empty");
    }
    return 0;
}

/* --system beats the system message of the file. */
static int put_system(struct request *q, const char *system, const char *path)
{
    json_t *root, *list, *first;
    int rc = qvl_parse_json(&root, q->messages, q->messages_len, path);
    if (rc)
        return rc;
    list = json_is_object(root) ? json_object_get(root, "messages") : root;
    if (!json_is_array(list)) { /* the library says what is wrong */
        json_decref(root);
        return 0;
    }
    first = json_array_get(list, 0);
    const char *role = json_string_value(json_object_get(first, "role"));
    json_t *message = json_pack("{s:s, s:s}", "role", "system", "content", system);
    if (role && (strcmp(role, "system") == 0 || strcmp(role, "developer") == 0))
        json_array_set_new(list, 0, message);
    else
        json_array_insert_new(list, 0, message);
    char *text = message ? json_dumps(root, 0) : NULL;
    json_decref(root);
    if (!text) {
        qvl_ui_error("--system: not UTF-8, or out of memory");
        return QVL_EXIT_ERROR;
    }
    free(q->messages);
    q->messages = text;
    q->messages_len = strlen(text);
    return 0;
}

static int read_messages(struct request *q, const struct qvl_options *o)
{
    int rc = qvl_read_text(&q->messages, &q->messages_len, o->messages);
    if (rc)
        return rc;
    const char *slash = strrchr(o->messages, '/');
    if (slash && !(q->base_dir = strndup(o->messages, (size_t)(slash - o->messages) + 1))) {
        qvl_ui_error("out of memory");
        return QVL_EXIT_MEMORY;
    }
    return o->system ? put_system(q, o->system, o->messages) : 0;
}

static int read_request(struct request *q, const struct qvl_options *o)
{
    *q = (struct request){.chat = !o->prompt && !o->messages && isatty(STDIN_FILENO)};
    int rc = check_stdin(o);
    if (rc)
        return rc;
    if (q->chat && o->json)
        return usage_error("--json needs a question: -p, --messages or standard input");
    if (q->chat && o->trace)
        return usage_error("--trace needs a question: -p, --messages or standard input");
    if (q->chat)
        return 0;
    if (o->messages && (rc = read_messages(q, o)))
        return rc;
    return read_prompt(q, o);
}

/* The user's message: pictures, then text. */
static int add_user(qvl_session *s, const struct qvl_options *o, const struct request *q, qvl_err *err)
{
    size_t n = 0;
    qvl_part *parts = calloc(o->images.n + 1, sizeof *parts);
    if (!parts) {
        snprintf(err->msg, sizeof err->msg, "out of memory");
        return QVL_E_NOMEM;
    }
    for (size_t i = 0; i < o->images.n; i++)
        parts[n++] = (qvl_part){.kind = QVL_PART_IMAGE_FILE, .data = o->images.v[i], .len = strlen(o->images.v[i])};
    if (q->prompt_len)
        parts[n++] = (qvl_part){.kind = QVL_PART_TEXT, .data = q->prompt, .len = q->prompt_len};
    int rc = n ? qvl_session_add(s, QVL_ROLE_USER, parts, n, err) : 0;
    free(parts);
    return rc;
}

static int build_conversation(qvl_session *s, const struct qvl_options *o, const struct request *q, qvl_err *err)
{
    int rc = 0;
    if (q->messages) {
        qvl_err inner = {0};
        rc = qvl_session_add_json(s, q->messages, q->messages_len, q->base_dir, &inner);
        if (rc < 0)
            snprintf(err->msg, sizeof err->msg, "%s: %.400s", strcmp(o->messages, "-") == 0 ? "standard input" : o->messages,
                     inner.msg[0] ? inner.msg : qvl_strerror(rc));
    } else if (o->system) {
        qvl_part text = {.kind = QVL_PART_TEXT, .data = o->system, .len = strlen(o->system)};
        rc = qvl_session_add(s, QVL_ROLE_SYSTEM, &text, 1, err);
    }
    return rc < 0 ? rc : add_user(s, o, q, err);
}

static int answer_once(const struct qvl_options *o, struct qvl_ui *ui, qvl_model *m, qvl_session *s, const struct request *q,
                       double load_ms)
{
    struct qvl_answer a;
    qvl_result r;
    qvl_err err = {0};
    char figures[512];
    int rc = build_conversation(s, o, q, &err);
    if (rc < 0)
        return qvl_report(ui, rc, &err);
    qvl_answer_init(&a, o, ui, m);
    qvl_answer_tell(&a, m, s);
    rc = qvl_answer_generate(&a, s, &r, &err);
    if (!o->json)
        qvl_ui_out_end_line(ui);
    if (rc < 0)
        return qvl_ui_close_out(ui, qvl_report(ui, rc, &err));
    int status = r.finish == QVL_FINISH_CANCELLED ? QVL_EXIT_INTERRUPTED : QVL_EXIT_OK;
    if (o->json) {
        rc = qvl_print_json(ui, qvl_answer_json(&a, &r, m, load_ms), 2);
        return rc ? rc : status;
    }
    if (!ui->out_failed) {
        qvl_answer_figures(figures, sizeof figures, &r);
        qvl_ui_note(ui, "%s", figures);
    }
    return qvl_ui_close_out(ui, status);
}

int qvl_cmd_run(const struct qvl_options *o, struct qvl_ui *ui)
{
    struct request q;
    qvl_model *m = NULL;
    qvl_session *s = NULL;
    qvl_session_params p;
    qvl_err err = {0};
    double start = qvl_ui_now_ms();
    int status = read_request(&q, o), rc;
    if (status == 0) {
        start = qvl_ui_now_ms();
        status = qvl_open_model(&m, o, ui, qvl_model_path(o), 0, QVL_PRECISION_AUTO);
    }
    if (status == 0) {
        qvl_session_options(&p, o);
        rc = qvl_session_open(&s, m, &p, &err);
        if (rc < 0)
            status = qvl_report(ui, rc, &err);
    }
    if (status == 0)
        status = q.chat ? qvl_repl(o, ui, m, s) : answer_once(o, ui, m, s, &q, qvl_ui_now_ms() - start);
    qvl_interrupt_watch(NULL);
    qvl_session_close(&s);
    qvl_model_close(&m);
    request_free(&q);
    return status;
}
