/* options.c - argv and environment -> struct qvl_options, by the rows of option_table.c.
 *
 * Order: flag beats environment. Names may be written with "_" for "-", values as "--name value" or "--name=value". */
#include "options.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "option_table.h"
#include "ui.h"

enum { NAME_MAX_LEN = 64 };

static int usage(const struct qvl_options *o, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static int usage(const struct qvl_options *o, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    qvl_ui_error("%s (see qvl %s --help)", text, qvl_command_rows[o->command].name);
    return QVL_EXIT_USAGE;
}

/* ---- names ---- */

/* Is `name` (n characters) one of the blank-separated words? "_" counts as "-". */
static int is_word(const char *words, const char *name, size_t n)
{
    while (words && *words) {
        size_t len = strcspn(words, " ");
        if (len == n) {
            size_t i = 0;
            while (i < n && words[i] == (name[i] == '_' ? '-' : name[i]))
                i++;
            if (i == n)
                return 1;
        }
        words += len + (words[len] == ' ');
    }
    return 0;
}

static const struct qvl_opt_row *find_long(enum qvl_command c, const char *name, size_t n)
{
    for (size_t i = 0; i < qvl_opt_row_count; i++) {
        const struct qvl_opt_row *r = &qvl_opt_rows[i];
        if (r->commands >> c & 1 && (is_word(r->name, name, n) || is_word(r->aliases, name, n)))
            return r;
    }
    return NULL;
}

static const struct qvl_opt_row *find_letter(enum qvl_command c, char letter)
{
    for (size_t i = 0; i < qvl_opt_row_count; i++)
        if (qvl_opt_rows[i].commands >> c & 1 && qvl_opt_rows[i].letter == letter)
            return &qvl_opt_rows[i];
    return NULL;
}

/* Edits (insert, delete, change, swap of neighbours) that turn a into b. */
static size_t distance(const char *a, size_t n, const char *b)
{
    size_t d[NAME_MAX_LEN + 1][NAME_MAX_LEN + 1], m = strlen(b);
    if (n > NAME_MAX_LEN || m > NAME_MAX_LEN)
        return NAME_MAX_LEN;
    for (size_t i = 0; i <= n; i++)
        for (size_t j = 0; j <= m; j++) {
            if (!i || !j) {
                d[i][j] = i + j;
                continue;
            }
            size_t best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            best = d[i - 1][j] + 1 < best ? d[i - 1][j] + 1 : best;
            best = d[i][j - 1] + 1 < best ? d[i][j - 1] + 1 : best;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && d[i - 2][j - 2] + 1 < best)
                best = d[i - 2][j - 2] + 1;
            d[i][j] = best;
        }
    return d[n][m];
}

static int unknown_option(const struct qvl_options *o, const char *arg, const char *name, size_t n)
{
    const char *near = NULL;
    size_t best = 3 + n / 6;
    char plain[NAME_MAX_LEN + 1] = "";
    if (is_word(qvl_later_options, name, n)) {
        qvl_ui_error("--%.*s: not in this version", (int)n, name);
        return QVL_EXIT_USAGE;
    }
    for (size_t i = 0; i < n && i < NAME_MAX_LEN; i++)
        plain[i] = name[i] == '_' ? '-' : (char)tolower((unsigned char)name[i]);
    for (size_t i = 0; i < qvl_opt_row_count; i++) {
        const struct qvl_opt_row *r = &qvl_opt_rows[i];
        if (!(r->commands >> o->command & 1))
            continue;
        size_t d = distance(plain, n < NAME_MAX_LEN ? n : NAME_MAX_LEN, r->name);
        if (d < best && d < strlen(r->name)) {
            best = d;
            near = r->name;
        }
    }
    if (near)
        return usage(o, "unknown option %.80s; did you mean --%s?", arg, near);
    return usage(o, "unknown option %.80s", arg);
}

/* ---- values ---- */

/* What a message calls the place a value came from: "--top-p" or "QVL_THREADS". */
struct source {
    const struct qvl_opt_row *row;
    const char *name;
    const char *dash;
};

static int bad(const struct qvl_options *o, const struct source *s, const char *value, const char *expected)
{
    return usage(o, "%s%s: found \"%.60s\", expected %s", s->dash, s->name, value, expected);
}

static void describe_range(char *out, size_t size, const char *what, double min, double max)
{
    if (max >= 4294967295.0)
        snprintf(out, size, min > 0 ? "%s of at least %.0f" : "%s, 0 or more", what, min);
    else
        snprintf(out, size, "%s from %g to %.10g", what, min, max);
}

/* Digits with an optional suffix; *unit gets what k stands for. 0, or -1 for anything else and on overflow. */
static int parse_count(const char *s, uint64_t kilo, uint64_t mega, uint64_t *out)
{
    char *end;
    if (!isdigit((unsigned char)*s))
        return -1;
    errno = 0;
    unsigned long long v = strtoull(s, &end, 10);
    uint64_t unit = 1;
    if (errno || end == s)
        return -1;
    if ((*end == 'k' || *end == 'K') && kilo) {
        unit = kilo;
        end++;
    } else if ((*end == 'm' || *end == 'M') && mega) {
        unit = mega;
        end++;
    }
    if (*end || v > UINT64_MAX / unit)
        return -1;
    *out = (uint64_t)v * unit;
    return 0;
}

static int parse_wxh(const char *s, uint64_t *w, uint64_t *h)
{
    char first[16];
    size_t n = strspn(s, "0123456789");
    if (!n || n >= sizeof first || (s[n] != 'x' && s[n] != 'X'))
        return -1;
    memcpy(first, s, n);
    first[n] = 0;
    if (parse_count(first, 0, 0, w) || parse_count(s + n + 1, 0, 0, h) || !*w || !*h || *w > 1000000 || *h > 1000000)
        return -1;
    return 0;
}

/* 2M, 512k, 65536, 2.5M, 1024x768 */
static int parse_pixels(const char *s, uint64_t *out)
{
    uint64_t w, h;
    char *end;
    if (parse_wxh(s, &w, &h) == 0) {
        *out = w * h;
        return 0;
    }
    if (parse_count(s, 1000, 1000000, out) == 0)
        return *out > 0 ? 0 : -1;
    if (!isdigit((unsigned char)*s) || strpbrk(s, "xXeEpP"))
        return -1;
    double v = strtod(s, &end);
    double unit = *end == 'M' || *end == 'm' ? 1e6 : *end == 'k' || *end == 'K' ? 1e3 : 0;
    if (!(unit > 0) || end[1] || !(v * unit >= 1) || !(v * unit < 1e15))
        return -1;
    *out = (uint64_t)(v * unit + 0.5);
    return 0;
}

static int parse_real(const char *s, double *out)
{
    char *end;
    if (!isdigit((unsigned char)*s) && *s != '-' && *s != '+' && *s != '.')
        return -1; /* no blanks, "nan" or "inf" */
    errno = 0;
    *out = strtod(s, &end);
    return *end || end == s || !isfinite(*out) || (errno == ERANGE && fabs(*out) > 1) || strpbrk(s, "xX") ? -1 : 0;
}

static int append(struct qvl_strings *l, const char *s)
{
    const char **v = realloc(l->v, (l->n + 1) * sizeof *v);
    if (!v) {
        qvl_ui_error("out of memory");
        return QVL_EXIT_MEMORY;
    }
    l->v = v;
    l->v[l->n++] = s;
    return 0;
}

static int is_choice(const char *choices, const char *s)
{
    size_t n = strlen(s);
    for (const char *c = choices; n; c++) {
        size_t len = strcspn(c, "|");
        if (len == n && strncmp(c, s, n) == 0)
            return 1;
        c += len;
        if (!*c)
            break;
    }
    return 0;
}

static int set_number(const struct qvl_options *o, const struct source *s, const char *value, void *field)
{
    const struct qvl_opt_row *r = s->row;
    char expected[128];
    if (r->kind == QVL_OPT_COUNT) {
        uint64_t n;
        describe_range(expected, sizeof expected, "a whole number", r->min, r->max);
        if (parse_count(value, 1024, 1024 * 1024, &n) || (double)n < r->min || (double)n > r->max)
            return bad(o, s, value, expected);
        memcpy(field, &n, sizeof n);
        return 0;
    }
    double x;
    describe_range(expected, sizeof expected, "a number", r->min, r->max);
    if (parse_real(value, &x) || !(x >= r->min && x <= r->max))
        return bad(o, s, value, expected);
    memcpy(field, &x, sizeof x);
    return 0;
}

static int set_pixels(const struct qvl_options *o, const struct source *s, const char *value, void *field)
{
    uint64_t n;
    if (parse_pixels(value, &n))
        return bad(o, s, value, "a number of pixels such as 65536, 512k, 2M or 1024x768");
    memcpy(field, &n, sizeof n);
    return 0;
}

/* One word of a list: a count, or a size as two numbers. 0, or -1. */
static int add_number(const struct qvl_opt_row *r, struct qvl_numbers *list, const char *word)
{
    uint64_t a, b = 0;
    size_t n = r->kind == QVL_OPT_SIZES ? 2 : 1;
    if (list->n + n > QVL_NUMBERS_MAX / (3 - n)) /* 16 of either */
        return -1;
    if (n == 2 ? parse_wxh(word, &a, &b) : parse_count(word, 1024, 1024 * 1024, &a))
        return -1;
    if ((double)a < r->min || (double)a > r->max || (n == 2 && ((double)b < r->min || (double)b > r->max)))
        return -1;
    list->v[list->n++] = (uint32_t)a;
    if (n == 2)
        list->v[list->n++] = (uint32_t)b;
    return 0;
}

static int set_numbers(const struct qvl_options *o, const struct source *s, const char *value, void *field)
{
    const struct qvl_opt_row *r = s->row;
    struct qvl_numbers list = {.given = 1};
    char word[32];
    int wrong = 0;
    for (const char *at = value; strcmp(value, "none") != 0 && !wrong; at++) {
        size_t n = strcspn(at, ",");
        wrong = !n || n >= sizeof word;
        if (!wrong) {
            memcpy(word, at, n);
            word[n] = 0;
            wrong = add_number(r, &list, word) != 0;
        }
        at += n;
        if (!*at)
            break;
    }
    if (wrong) {
        char expected[128];
        snprintf(expected, sizeof expected, "up to %d %s from %.0f to %.0f, such as %s, or none", QVL_NUMBERS_MAX / 2,
                 r->kind == QVL_OPT_SIZES ? "sizes" : "numbers", r->min, r->max, r->kind == QVL_OPT_SIZES ? "400x300,1024x768" : "128,1k");
        return bad(o, s, value, expected);
    }
    memcpy(field, &list, sizeof list);
    return 0;
}

static int set_value(struct qvl_options *o, const struct source *s, const char *value)
{
    const struct qvl_opt_row *r = s->row;
    char *field = (char *)o + r->offset, expected[128];
    o->given |= r->mark;
    switch (r->kind) {
    case QVL_OPT_FLAG: memcpy(field, &(int){1}, sizeof(int)); return 0;
    case QVL_OPT_COUNT:
    case QVL_OPT_REAL: return set_number(o, s, value, field);
    case QVL_OPT_PIXELS: return set_pixels(o, s, value, field);
    case QVL_OPT_COUNTS:
    case QVL_OPT_SIZES: return set_numbers(o, s, value, field);
    case QVL_OPT_CHOICE:
        if (!is_choice(r->choices, value)) {
            snprintf(expected, sizeof expected, "one of %s", r->choices);
            return bad(o, s, value, expected);
        }
        memcpy(field, &value, sizeof value);
        return 0;
    case QVL_OPT_LIST:
        if (!*value)
            return usage(o, "%s%s: the value is empty", s->dash, s->name);
        return append((struct qvl_strings *)(void *)field, value);
    case QVL_OPT_TEXT:
        if (!*value && r->offset != offsetof(struct qvl_options, prompt) && r->offset != offsetof(struct qvl_options, system))
            return usage(o, "%s%s: the value is empty", s->dash, s->name);
        memcpy(field, &value, sizeof value);
        return 0;
    }
    return 0;
}

/* ---- argv ---- */

/* A word that is exactly an option of this command can hardly be meant as the value of another. */
static int looks_like_option(enum qvl_command c, const char *s)
{
    return s[0] == '-' && s[1] == '-' && s[2] && find_long(c, s + 2, strcspn(s + 2, "="));
}

static int take_long(struct qvl_options *o, int argc, char **argv, int *i)
{
    const char *arg = argv[*i], *name = arg + 2, *value = strchr(name, '=');
    size_t n = value ? (size_t)(value - name) : strlen(name);
    char shown[NAME_MAX_LEN];
    const struct qvl_opt_row *r = find_long(o->command, name, n);
    if (!r)
        return unknown_option(o, arg, name, n);
    snprintf(shown, sizeof shown, "%.*s", (int)n, name);
    struct source s = {.row = r, .name = shown, .dash = "--"};
    if (r->kind == QVL_OPT_FLAG) {
        if (value)
            return usage(o, "--%s takes no value", shown);
        return set_value(o, &s, "");
    }
    if (value)
        return set_value(o, &s, value + 1);
    if (*i + 1 >= argc || looks_like_option(o->command, argv[*i + 1]))
        return usage(o, "--%s: its value %s is missing", shown, r->arg);
    return set_value(o, &s, argv[++*i]);
}

/* -q -v, -qv, -n 20, -n20 */
static int take_short(struct qvl_options *o, int argc, char **argv, int *i)
{
    for (const char *p = argv[*i] + 1; *p; p++) {
        char name[2] = {*p, 0};
        const struct qvl_opt_row *r = find_letter(o->command, *p);
        if (!r) {
            if (p == argv[*i] + 1 && p[1]) /* -temp for --temp */
                return unknown_option(o, argv[*i], p, strcspn(p, "="));
            return usage(o, "unknown option -%c", isprint((unsigned char)*p) ? *p : '?');
        }
        struct source s = {.row = r, .name = name, .dash = "-"};
        if (r->kind == QVL_OPT_FLAG) {
            set_value(o, &s, "");
            continue;
        }
        if (p[1])
            return set_value(o, &s, p + 1 + (p[1] == '='));
        if (*i + 1 >= argc || looks_like_option(o->command, argv[*i + 1]))
            return usage(o, "-%c: its value %s is missing", *p, r->arg);
        return set_value(o, &s, argv[++*i]);
    }
    return 0;
}

static int read_environment(struct qvl_options *o, const unsigned char *seen)
{
    o->env_model = getenv("QVL_MODEL");
    if (o->env_model && !*o->env_model)
        o->env_model = NULL;
    for (size_t i = 0; i < qvl_opt_row_count; i++) {
        const struct qvl_opt_row *r = &qvl_opt_rows[i];
        const char *value = r->env && r->commands >> o->command & 1 && !seen[i] ? getenv(r->env) : NULL;
        if (!value || !*value)
            continue;
        struct source s = {.row = r, .name = r->env, .dash = ""};
        int rc = set_value(o, &s, value);
        if (rc)
            return rc;
    }
    return 0;
}

static void note_seen(enum qvl_command c, const char *arg, unsigned char *seen)
{
    const struct qvl_opt_row *r = arg[1] == '-' ? find_long(c, arg + 2, strcspn(arg + 2, "=")) : find_letter(c, arg[1]);
    if (r)
        seen[r - qvl_opt_rows] = 1;
}

int qvl_options_parse(struct qvl_options *o, enum qvl_command command, int argc, char **argv)
{
    unsigned char seen[256] = {0};
    int rc = 0, ended = 0;
    *o = (struct qvl_options){.command = command};
    for (int i = 0; i < argc && rc == 0; i++) {
        const char *a = argv[i];
        if (ended || a[0] != '-' || !a[1]) {
            rc = append(&o->args, a);
        } else if (strcmp(a, "--") == 0) {
            ended = 1;
        } else {
            note_seen(command, a, seen);
            rc = a[1] == '-' ? take_long(o, argc, argv, &i) : take_short(o, argc, argv, &i);
        }
    }
    if (rc || o->help)
        return rc;
    rc = read_environment(o, seen);
    if (rc)
        return rc;
    const struct qvl_command_row *c = &qvl_command_rows[command];
    size_t n = o->args.n;
    if (o->model) {
        o->env_model = o->model;
        if (n && n == c->max_args) /* verify takes any number of goldens */
            return usage(o, "unexpected argument \"%.80s\": --model names the model already", o->args.v[0]);
    }
    if (n > c->max_args)
        return usage(o, "unexpected argument \"%.80s\"%s", o->args.v[c->max_args],
                     command == QVL_CMD_RUN ? "; pictures go with --image, the question with -p" : "");
    if (n + (o->env_model && command != QVL_CMD_INSPECT && command != QVL_CMD_PULL) < c->min_args)
        return usage(o, "%s", command == QVL_CMD_INSPECT ? "PATH is missing"
                              : command == QVL_CMD_PULL  ? "REPO is missing"
                              : command == QVL_CMD_VERIFY && (n || o->env_model) ? "GOLDEN is missing"
                                                     : "MODEL is missing (or set QVL_MODEL)");
    return 0;
}

void qvl_options_free(struct qvl_options *o)
{
    free(o->args.v);
    free(o->images.v);
    free(o->stop.v);
    free(o->include.v);
    free(o->lora.v);
    free(o->exclude.v);
    *o = (struct qvl_options){.command = o->command};
}

int qvl_command_find(const char *name)
{
    for (int i = 0; i < QVL_CMD_COUNT; i++)
        if (strcmp(name, qvl_command_rows[i].name) == 0)
            return i;
    return -1;
}

int qvl_command_unknown(const char *word)
{
    size_t best = 3;
    const char *near = NULL;
    if (is_word(qvl_later_commands, word, strlen(word))) {
        qvl_ui_error("%s: not in this version", word);
        return QVL_EXIT_USAGE;
    }
    for (int i = 0; i < QVL_CMD_COUNT; i++) {
        size_t d = distance(word, strlen(word), qvl_command_rows[i].name);
        if (d < best) {
            best = d;
            near = qvl_command_rows[i].name;
        }
    }
    if (near)
        qvl_ui_error("unknown command \"%.80s\"; did you mean %s? (see qvl --help)", word, near);
    else
        qvl_ui_error("unknown command \"%.80s\" (see qvl --help)", word);
    return QVL_EXIT_USAGE;
}
