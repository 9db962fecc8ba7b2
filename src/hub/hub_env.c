/* hub_env.c - the variables of the huggingface_hub client, read the way it reads them. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "hub/hub.h"

#define DEFAULT_ENDPOINT "https://huggingface.co"
enum { MAX_TEXT = 4096, MAX_TOKEN = 1024, DEFAULT_S = 10, MAX_S = 86400 };

static const char *env(const char *name)
{
    const char *v = getenv(name);
    return v && *v ? v : NULL;
}

static int is_true(const char *name)
{
    const char *v = env(name);
    return v && (strcmp(v, "1") == 0 || strcasecmp(v, "ON") == 0 || strcasecmp(v, "YES") == 0 || strcasecmp(v, "TRUE") == 0);
}

static long seconds(const char *name)
{
    const char *v = env(name);
    char *end;
    double s = v ? strtod(v, &end) : 0;
    if (!v || end == v || *end || !(s > 0) || s > MAX_S)
        return DEFAULT_S;
    return s < 1 ? 1 : (long)s;
}

/* "~" at the beginning, $NAME and ${NAME}, as Python's expanduser and expandvars; unknown variables stay as they are. */
static char *expand(const char *s)
{
    struct qvl_buf b;
    char name[128];
    qvl_buf_init(&b, MAX_TEXT);
    if (*s == '~' && (!s[1] || s[1] == '/') && env("HOME"))
        qvl_buf_puts(&b, env("HOME")), s++;
    while (*s) {
        int brace = s[0] == '$' && s[1] == '{';
        const char *from = s + 1 + brace;
        size_t n = 0;
        while (*s == '$' && n + 1 < sizeof name && (isalnum((unsigned char)from[n]) || from[n] == '_'))
            name[n] = from[n], n++;
        name[n] = 0;
        if (n && (!brace || from[n] == '}') && getenv(name)) {
            qvl_buf_puts(&b, getenv(name));
            s = from + n + brace;
        } else {
            qvl_buf_putc(&b, *s++);
        }
    }
    return qvl_buf_take(&b, NULL);
}

/* Expanded value of the first variable that is set; else base/name (NULL without a base). */
static char *folder(const char *first, const char *second, const char *base, const char *name)
{
    const char *v = env(first);
    if (!v && second)
        v = env(second);
    return v ? expand(v) : base ? qvl_path_join(base, name) : NULL;
}

/* Visible ASCII between white space; anything else could smuggle a header. */
static int take_token(struct qvl_hub_env *e, const char *s, const char *where, qvl_err *err)
{
    while (isspace((unsigned char)*s))
        s++;
    size_t n = strlen(s);
    while (n && isspace((unsigned char)s[n - 1]))
        n--;
    for (size_t i = 0; i < n; i++)
        if (s[i] <= ' ' || s[i] >= 0x7f || n > MAX_TOKEN)
            return qvl_fail(err, QVL_E_ARG, "%s: is not a token: expected one word of at most %d characters", where, MAX_TOKEN);
    if (n && !(e->token = qvl_strndup(s, n)))
        return qvl_fail_nomem(err, n, where);
    return 0;
}

static int read_token(struct qvl_hub_env *e, qvl_err *err)
{
    static const char *const names[] = {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"};
    char *text;
    size_t len;
    for (size_t i = 0; i < QVL_COUNT(names) && !e->token; i++)
        if (env(names[i]))
            QVL_TRY(take_token(e, env(names[i]), names[i], err));
    if (e->token || !e->token_path || !qvl_file_exists(e->token_path))
        return 0;
    QVL_TRY(qvl_file_read(&text, &len, e->token_path, MAX_TEXT, err));
    int rc = take_token(e, text, e->token_path, err);
    qvl_mem_free(text);
    return rc;
}

int qvl_hub_env_read(struct qvl_hub_env *e, int want_token, qvl_err *err)
{
    char *user = env("XDG_CACHE_HOME") ? expand(env("XDG_CACHE_HOME")) : env("HOME") ? qvl_path_join(env("HOME"), ".cache") : NULL;
    *e = (struct qvl_hub_env){.metadata_s = seconds("HF_HUB_ETAG_TIMEOUT"), .download_s = seconds("HF_HUB_DOWNLOAD_TIMEOUT")};
    e->home = folder("HF_HOME", NULL, user, "huggingface");
    qvl_mem_free(user);
    e->cache = folder("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", e->home, "hub");
    e->token_path = folder("HF_TOKEN_PATH", NULL, e->home, "token");
    e->offline = is_true("HF_HUB_OFFLINE") ? "HF_HUB_OFFLINE" : is_true("TRANSFORMERS_OFFLINE") ? "TRANSFORMERS_OFFLINE" : NULL;
    e->no_symlinks = is_true("HF_HUB_DISABLE_SYMLINKS");
    e->token_forbidden = is_true("HF_HUB_DISABLE_IMPLICIT_TOKEN");
    e->endpoint = qvl_strdup(env("HF_ENDPOINT") ? env("HF_ENDPOINT") : DEFAULT_ENDPOINT);
    int rc = e->endpoint ? 0 : qvl_fail_nomem(err, MAX_TEXT, "HF_ENDPOINT");
    for (size_t n = rc ? 0 : strlen(e->endpoint); n && e->endpoint[n - 1] == '/';)
        e->endpoint[--n] = 0;
    if (rc == 0 && want_token && !e->token_forbidden)
        rc = read_token(e, err);
    if (rc)
        qvl_hub_env_free(e);
    return rc;
}

void qvl_hub_env_free(struct qvl_hub_env *e)
{
    qvl_mem_free(e->home);
    qvl_mem_free(e->cache);
    qvl_mem_free(e->endpoint);
    qvl_mem_free(e->token);
    qvl_mem_free(e->token_path);
    *e = (struct qvl_hub_env){0};
}

char *qvl_hub_repo_folder(const struct qvl_hub_env *e, const char *repo)
{
    struct qvl_buf b;
    qvl_buf_init(&b, MAX_TEXT);
    qvl_buf_printf(&b, "%s/models--", e->cache);
    for (; *repo; repo++)
        qvl_buf_puts(&b, *repo == '/' ? "--" : (char[]){*repo, 0});
    return qvl_buf_take(&b, NULL);
}
