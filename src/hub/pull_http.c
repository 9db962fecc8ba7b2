/* pull_http.c - what a hub's replies mean: worth another try, and when; or an error in words that help. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/err.h"
#include "base/watch.h"
#include "hub/pull.h"

enum { FIRST_WAIT_MS = 500, LONGEST_WAIT_S = 300, SLICE_MS = 20 };

int qvl_pull_passing(const struct qvl_http_reply *r)
{
    return r->status == 408 || r->status == 429 || r->status >= 500;
}

int qvl_pull_wait(struct qvl_pull_job *p, int tries, const struct qvl_http_reply *r, qvl_err *err)
{
    double ms = FIRST_WAIT_MS * (double)(1 << (tries - 1)), now = qvl_now_ms();
    ms *= 0.75 + 0.5 * (double)((uint64_t)(now * 1000) % 1000) / 1000; /* so that clients that failed together do not return together */
    if (r && r->retry_after > LONGEST_WAIT_S)
        return qvl_fail(err, QVL_E_LIMIT, "%s: asks to wait %ld min before the next request (status %ld): try again later%s", r->host,
                        (r->retry_after + 59) / 60, r->status, p->env.token ? "" : ", or with a token in HF_TOKEN");
    if (r && (double)r->retry_after * 1000 > ms)
        ms = (double)r->retry_after * 1000;
    while (qvl_now_ms() - now < ms) {
        struct timespec t = {.tv_nsec = SLICE_MS * 1000000L};
        if (atomic_load(&p->stop))
            return qvl_fail(err, QVL_E_CANCELLED, "cancelled");
        nanosleep(&t, NULL);
    }
    return 0;
}

int qvl_pull_request(struct qvl_pull_job *p, struct qvl_http *h, const struct qvl_http_request *q, struct qvl_http_reply *r,
                     qvl_err *err)
{
    for (int tries = 1;; tries++) {
        int rc = qvl_http_run(h, q, r, err);
        if (rc == 0 && !qvl_pull_passing(r))
            return 0;
        if (rc != 0 && rc != QVL_E_IO)
            return rc;
        if (tries > QVL_PULL_TRIES)
            return rc ? rc : qvl_pull_refused(p, r, NULL, err);
        QVL_TRY(qvl_pull_wait(p, tries, rc ? NULL : r, err));
    }
}

/* Nobody signed in, or somebody without the right. */
static int no_access(const struct qvl_pull_job *p, const struct qvl_http_reply *r, qvl_err *err)
{
    const char *repo = p->name.repo, *end = p->env.endpoint;
    if (strcmp(r->error_code, "GatedRepo") == 0)
        return qvl_fail(err, QVL_E_IO, "%s: access has to be granted first (status %ld): accept the conditions at %s/%s%s", repo, r->status,
                        end, repo, p->env.token ? " with the account of the token" : ", then set HF_TOKEN to a token of that account");
    if (p->env.token)
        return qvl_fail(err, QVL_E_IO, "%s: the token is not accepted (status %ld): it is wrong, expired, or may not read this repository",
                        repo, r->status);
    if (p->env.token_forbidden)
        return qvl_fail(err, QVL_E_NOTFOUND, "%s: not found, or private (status %ld): HF_HUB_DISABLE_IMPLICIT_TOKEN keeps the token back",
                        repo, r->status);
    return qvl_fail(err, QVL_E_NOTFOUND, "%s: not found, or private (status %ld): for a private one set HF_TOKEN, or write the token to %.200s",
                    repo, r->status, p->env.token_path ? p->env.token_path : "a file named by HF_TOKEN_PATH");
}

int qvl_pull_refused(const struct qvl_pull_job *p, const struct qvl_http_reply *r, const char *path, qvl_err *err)
{
    const char *repo = p->name.repo, *sep = path ? ": " : "", *file = path ? path : "";
    if (r->status == 401 || r->status == 403)
        return no_access(p, r, err);
    if (r->status == 404 && strcmp(r->error_code, "RevisionNotFound") == 0)
        return qvl_fail(err, QVL_E_NOTFOUND, "%s: has no revision \"%s\" (status 404)", repo, p->rev);
    if (r->status == 404 && (path || strcmp(r->error_code, "EntryNotFound") == 0))
        return qvl_fail(err, QVL_E_NOTFOUND, "%s%s%s: the server has no such file (status 404)", repo, sep, file);
    if (r->status == 404)
        return qvl_fail(err, QVL_E_NOTFOUND, "%s: there is no such repository at %s (status 404)%s", repo, p->env.endpoint,
                        p->env.token ? "" : "; for a private one set HF_TOKEN");
    if (r->status == 429)
        return qvl_fail(err, QVL_E_LIMIT, "%s%s%s: too many requests (status 429): try again later%s", repo, sep, file,
                        p->env.token ? "" : ", or with a token in HF_TOKEN");
    return qvl_fail(err, QVL_E_IO, "%s%s%s: %s answers with status %ld%s%s", repo, sep, file, r->host, r->status,
                    r->error_text[0] ? ": " : "", r->error_text);
}
