/* http.c - see http.h. A build without libcurl has the same functions; opening then says what is missing. */
#include "hub/http.h"

#include "base/err.h"

void qvl_http_escape(struct qvl_buf *b, const char *text, int keep_slashes)
{
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        int plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_' ||
                    c == '~' || (c == '/' && keep_slashes);
        if (plain)
            qvl_buf_putc(b, c);
        else
            qvl_buf_printf(b, "%%%02X", c);
    }
}

#ifdef QVL_HAVE_CURL

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <curl/curl.h>

#include "base/mem.h"

enum { MAX_REDIRECTS = 5, MAX_HEADERS = 256 << 10, MAX_ERROR_BODY = 1 << 20, CONNECT_S = 10 };

struct qvl_http {
    CURL *easy;
    CURLU *endpoint; /* parsed; what the token is bound to */
    const struct qvl_hub_env *env;
    atomic_int *stop;
    int is_http;     /* the endpoint is not encrypted: neither need redirects be */
    char bearer[1200];
    /* of the running request */
    const struct qvl_http_request *request;
    struct qvl_http_reply *reply;
    qvl_err *err;
    size_t header_bytes, dropped;
    int sink_rc;
};

/* ---------------------------------------------------------------- headers */

static void take_text(char *out, size_t size, const char *v, size_t n)
{
    size_t k = 0;
    for (size_t i = 0; i < n && k + 1 < size; i++)
        if ((unsigned char)v[i] >= 0x20 && v[i] != 0x7f)
            out[k++] = v[i];
    out[k] = 0;
}

static void take_etag(char *out, size_t size, const char *v, size_t n)
{
    if (n > 2 && v[0] == 'W' && v[1] == '/')
        v += 2, n -= 2;
    if (n >= 2 && v[0] == '"' && v[n - 1] == '"')
        v++, n -= 2;
    take_text(out, size, v, n);
}

static uint64_t number(const char *v, size_t n)
{
    uint64_t x = 0;
    if (!n || n > 19)
        return QVL_HTTP_UNKNOWN;
    for (size_t i = 0; i < n; i++) {
        if (v[i] < '0' || v[i] > '9')
            return QVL_HTTP_UNKNOWN;
        x = x * 10 + (uint64_t)(v[i] - '0');
    }
    return x;
}

/* "bytes 10-99/100"; the total may be "*". */
static void take_range(struct qvl_http_reply *r, const char *v, size_t n)
{
    if (n < 6 || strncasecmp(v, "bytes ", 6) != 0)
        return;
    v += 6, n -= 6;
    const char *dash = memchr(v, '-', n), *slash = memchr(v, '/', n);
    if (slash)
        r->range_total = number(slash + 1, (size_t)(v + n - slash - 1));
    if (dash && (!slash || dash < slash))
        r->range_from = number(v, (size_t)(dash - v));
}

/* "…;t=210": seconds until the limit is lifted. */
static void take_rate_limit(struct qvl_http_reply *r, const char *v, size_t n)
{
    for (size_t i = 0; i + 3 < n; i++)
        if (v[i] == ';' && v[i + 1] == 't' && v[i + 2] == '=') {
            size_t k = i + 3;
            while (k < n && v[k] >= '0' && v[k] <= '9')
                k++;
            uint64_t t = number(v + i + 3, k - i - 3);
            if (!r->retry_after && t < 1000000)
                r->retry_after = (long)t;
        }
}

static size_t on_header(char *line, size_t size, size_t count, void *ud)
{
    struct qvl_http *h = ud;
    struct qvl_http_reply *r = h->reply;
    size_t n = size * count, name;
    h->header_bytes += n;
    if (h->header_bytes > MAX_HEADERS)
        return 0;
    const char *colon = memchr(line, ':', n);
    if (!colon)
        return n;
    name = (size_t)(colon - line);
    const char *v = colon + 1, *end = line + n;
    while (v < end && (*v == ' ' || *v == '\t'))
        v++;
    while (end > v && strchr(" \t\r\n", end[-1]))
        end--;
    size_t len = (size_t)(end - v);
#define IS(text) (name == sizeof(text) - 1 && strncasecmp(line, text, name) == 0)
    if (IS("content-length"))
        r->length = number(v, len);
    else if (IS("content-range"))
        take_range(r, v, len);
    else if (IS("etag"))
        take_etag(r->etag, sizeof r->etag, v, len);
    else if (IS("x-linked-etag"))
        take_etag(r->linked_etag, sizeof r->linked_etag, v, len);
    else if (IS("x-linked-size"))
        r->linked_size = number(v, len);
    else if (IS("x-repo-commit"))
        take_text(r->commit, sizeof r->commit, v, len);
    else if (IS("x-error-code"))
        take_text(r->error_code, sizeof r->error_code, v, len);
    else if (IS("x-error-message"))
        take_text(r->error_text, sizeof r->error_text, v, len);
    else if (IS("location"))
        take_text(r->location, len < sizeof r->location ? sizeof r->location : 1, v, len); /* a cut address would be another one */
    else if (IS("ratelimit"))
        take_rate_limit(r, v, len);
#undef IS
    return n;
}

/* ---------------------------------------------------------------- body */

static size_t on_body(char *data, size_t size, size_t count, void *ud)
{
    struct qvl_http *h = ud;
    size_t n = size * count;
    curl_easy_getinfo(h->easy, CURLINFO_RESPONSE_CODE, &h->reply->status);
    if (h->request->sink && (h->reply->status == 200 || h->reply->status == 206)) {
        h->sink_rc = h->request->sink(h->request->ud, h->reply, data, n);
        return h->sink_rc ? 0 : n;
    }
    h->dropped += n;
    return h->dropped > MAX_ERROR_BODY ? 0 : n;
}

static int on_progress(void *ud, curl_off_t dl_total, curl_off_t dl_now, curl_off_t ul_total, curl_off_t ul_now)
{
    const struct qvl_http *h = ud;
    (void)dl_total, (void)dl_now, (void)ul_total, (void)ul_now;
    return h->stop && atomic_load_explicit(h->stop, memory_order_relaxed) != 0;
}

/* ---------------------------------------------------------------- addresses */

static int same_part(CURLU *a, CURLU *b, CURLUPart part)
{
    char *x = NULL, *y = NULL;
    int same = curl_url_get(a, part, &x, CURLU_DEFAULT_PORT) == CURLUE_OK && curl_url_get(b, part, &y, CURLU_DEFAULT_PORT) == CURLUE_OK &&
               strcasecmp(x, y) == 0;
    curl_free(x);
    curl_free(y);
    return same;
}

static int is_endpoint(const struct qvl_http *h, CURLU *url)
{
    return same_part(h->endpoint, url, CURLUPART_SCHEME) && same_part(h->endpoint, url, CURLUPART_HOST) &&
           same_part(h->endpoint, url, CURLUPART_PORT);
}

/* Notes where the request goes; refuses what is not http(s), or would leave encryption. */
static int check_url(const struct qvl_http *h, CURLU *url, struct qvl_http_reply *r, qvl_err *err)
{
    char *scheme = NULL, *host = NULL;
    int rc = 0;
    if (curl_url_get(url, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK)
        rc = qvl_fail(err, QVL_E_FORMAT, "%s: sent an address that cannot be read", h->env->endpoint);
    else if (strcasecmp(scheme, "https") != 0 && !(h->is_http && strcasecmp(scheme, "http") == 0))
        rc = qvl_fail(err, QVL_E_FORMAT, "%s: redirects to an address of type \"%.20s\", expected https", h->env->endpoint, scheme);
    else if (curl_url_get(url, CURLUPART_HOST, &host, 0) != CURLUE_OK)
        rc = qvl_fail(err, QVL_E_FORMAT, "%s: sent an address without a host", h->env->endpoint);
    else
        take_text(r->host, sizeof r->host, host, strlen(host));
    curl_free(scheme);
    curl_free(host);
    return rc;
}

/* ---------------------------------------------------------------- requests */

static int explain(struct qvl_http *h, CURLcode code, qvl_err *err)
{
    const char *host = h->reply->host;
    if (h->stop && atomic_load(h->stop))
        return qvl_fail(err, QVL_E_CANCELLED, "cancelled");
    switch (code) {
    case CURLE_OPERATION_TIMEDOUT: return qvl_fail(err, QVL_E_IO, "%s: no data for %ld s", host, h->request->timeout_s);
    case CURLE_COULDNT_RESOLVE_HOST: return qvl_fail(err, QVL_E_IO, "%s: the name is unknown: is there a network?", host);
    case CURLE_PARTIAL_FILE: case CURLE_GOT_NOTHING: case CURLE_RECV_ERROR:
        return qvl_fail(err, QVL_E_IO, "%s: the connection was cut", host);
    case CURLE_PEER_FAILED_VERIFICATION: case CURLE_SSL_CACERT_BADFILE:
        return qvl_fail(err, QVL_E_UNSUPPORTED, "%s: its certificate cannot be trusted: %s", host, curl_easy_strerror(code));
    case CURLE_WRITE_ERROR:
        if (h->header_bytes > MAX_HEADERS || h->dropped > MAX_ERROR_BODY)
            return qvl_fail(err, QVL_E_LIMIT, "%s: its reply is larger than what is read of one", host);
        return h->sink_rc < 0 ? h->sink_rc : qvl_fail(err, QVL_E_IO, "%s: the transfer was ended", host);
    case CURLE_OUT_OF_MEMORY: return qvl_fail(err, QVL_E_NOMEM, "out of memory while talking to %s", host);
    default: return qvl_fail(err, QVL_E_IO, "%s: %s", host, curl_easy_strerror(code));
    }
}

static void allow_protocols(const struct qvl_http *h)
{
#if LIBCURL_VERSION_NUM >= 0x075500
    curl_easy_setopt(h->easy, CURLOPT_PROTOCOLS_STR, h->is_http ? "http,https" : "https");
#else
    curl_easy_setopt(h->easy, CURLOPT_PROTOCOLS, h->is_http ? CURLPROTO_HTTP | CURLPROTO_HTTPS : CURLPROTO_HTTPS);
#endif
}

/* One exchange without redirects. */
static int exchange(struct qvl_http *h, CURLU *url, qvl_err *err)
{
    const struct qvl_http_request *q = h->request;
    struct curl_slist *headers = curl_slist_append(NULL, "Accept-Encoding: identity"); /* sizes and hashes are of the plain bytes */
    char range[64];
    int own = is_endpoint(h, url);
    struct qvl_http_reply *r = h->reply;
    *r = (struct qvl_http_reply){.foreign = !own, .length = QVL_HTTP_UNKNOWN, .range_from = QVL_HTTP_UNKNOWN,
                                 .range_total = QVL_HTTP_UNKNOWN, .linked_size = QVL_HTTP_UNKNOWN};
    int rc = check_url(h, url, r, err);
    if (own && q->with_token && h->bearer[0] && headers) {
        struct curl_slist *more = curl_slist_append(headers, h->bearer);
        if (!more)
            rc = rc ? rc : qvl_fail_nomem(err, sizeof h->bearer, "a request");
        headers = more ? more : headers;
    }
    if (rc == 0 && !headers)
        rc = qvl_fail_nomem(err, 64, "a request");
    if (rc == 0) {
        curl_easy_reset(h->easy); /* keeps the connection */
        curl_easy_setopt(h->easy, CURLOPT_CURLU, url);
        curl_easy_setopt(h->easy, CURLOPT_HTTPHEADER, headers);
        curl_easy_setopt(h->easy, CURLOPT_USERAGENT, "qvl/0.1.0");
        curl_easy_setopt(h->easy, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(h->easy, CURLOPT_FOLLOWLOCATION, 0L);
        curl_easy_setopt(h->easy, CURLOPT_NOBODY, q->head ? 1L : 0L);
        curl_easy_setopt(h->easy, CURLOPT_CONNECTTIMEOUT, q->timeout_s > CONNECT_S ? q->timeout_s : (long)CONNECT_S);
        curl_easy_setopt(h->easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
        curl_easy_setopt(h->easy, CURLOPT_LOW_SPEED_TIME, q->timeout_s);
        curl_easy_setopt(h->easy, CURLOPT_HEADERFUNCTION, on_header);
        curl_easy_setopt(h->easy, CURLOPT_HEADERDATA, h);
        curl_easy_setopt(h->easy, CURLOPT_WRITEFUNCTION, on_body);
        curl_easy_setopt(h->easy, CURLOPT_WRITEDATA, h);
        curl_easy_setopt(h->easy, CURLOPT_XFERINFOFUNCTION, on_progress);
        curl_easy_setopt(h->easy, CURLOPT_XFERINFODATA, h);
        curl_easy_setopt(h->easy, CURLOPT_NOPROGRESS, 0L);
        curl_easy_setopt(h->easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L); /* a proxy speaks for itself only */
        curl_easy_setopt(h->easy, CURLOPT_BUFFERSIZE, 256L << 10);
        allow_protocols(h);
        snprintf(range, sizeof range, "%llu-", (unsigned long long)q->from);
        if (q->from)
            curl_easy_setopt(h->easy, CURLOPT_RANGE, range);
        h->header_bytes = h->dropped = 0;
        h->sink_rc = 0;
        CURLcode code = curl_easy_perform(h->easy);
        curl_off_t after = 0;
        curl_easy_getinfo(h->easy, CURLINFO_RESPONSE_CODE, &r->status);
        if (curl_easy_getinfo(h->easy, CURLINFO_RETRY_AFTER, &after) == CURLE_OK && after > 0 && after < 1000000)
            r->retry_after = (long)after;
        if (code != CURLE_OK && !(code == CURLE_WRITE_ERROR && h->sink_rc == 1))
            rc = explain(h, code, err);
    }
    curl_slist_free_all(headers);
    return rc;
}

static int is_redirect(long status) { return status == 301 || status == 302 || status == 303 || status == 307 || status == 308; }

int qvl_http_run(struct qvl_http *h, const struct qvl_http_request *q, struct qvl_http_reply *reply, qvl_err *err)
{
    CURLU *url = curl_url();
    int rc = 0;
    if (!url)
        return qvl_fail_nomem(err, 64, "an address");
    h->request = q;
    h->reply = reply;
    if (curl_url_set(url, CURLUPART_URL, q->url, 0) != CURLUE_OK)
        rc = qvl_fail(err, QVL_E_ARG, "%.200s: is no address", q->url);
    for (int hop = 0; rc == 0; hop++) {
        rc = exchange(h, url, err);
        if (rc || q->stay || !is_redirect(reply->status) || !reply->location[0])
            break;
        if (hop == MAX_REDIRECTS)
            rc = qvl_fail(err, QVL_E_LIMIT, "%s: more than %d redirects", reply->host, MAX_REDIRECTS);
        else if (curl_url_set(url, CURLUPART_URL, reply->location, 0) != CURLUE_OK) /* relative ones, too */
            rc = qvl_fail(err, QVL_E_FORMAT, "%s: redirects to an address that cannot be read", reply->host);
    }
    curl_url_cleanup(url);
    return rc;
}

int qvl_http_open(struct qvl_http **out, const struct qvl_hub_env *env, atomic_int *stop, qvl_err *err)
{
    struct qvl_http *h = qvl_calloc(1, sizeof *h);
    char *scheme = NULL;
    int rc = 0;
    *out = NULL;
    if (!h)
        return qvl_fail_nomem(err, sizeof *h, "a connection");
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) { /* counted: any number of connections may do it */
        qvl_mem_free(h);
        return qvl_fail(err, QVL_E_STATE, "libcurl cannot be started");
    }
    *h = (struct qvl_http){.easy = curl_easy_init(), .endpoint = curl_url(), .env = env, .stop = stop};
    if (!h->easy || !h->endpoint)
        rc = qvl_fail_nomem(err, sizeof *h, "a connection");
    else if (curl_url_set(h->endpoint, CURLUPART_URL, env->endpoint, 0) != CURLUE_OK ||
             curl_url_get(h->endpoint, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK ||
             (strcmp(scheme, "http") != 0 && strcmp(scheme, "https") != 0))
        rc = qvl_fail(err, QVL_E_ARG, "HF_ENDPOINT: found \"%.100s\", expected an address as https://host", env->endpoint);
    h->is_http = scheme && strcmp(scheme, "http") == 0;
    curl_free(scheme);
    if (env->token)
        snprintf(h->bearer, sizeof h->bearer, "Authorization: Bearer %s", env->token);
    if (rc)
        qvl_http_close(&h);
    *out = h;
    return rc;
}

void qvl_http_close(struct qvl_http **p)
{
    struct qvl_http *h = *p;
    if (!h)
        return;
    curl_easy_cleanup(h->easy);
    curl_url_cleanup(h->endpoint);
    curl_global_cleanup();
    qvl_mem_free(h);
    *p = NULL;
}

#else

int qvl_http_open(struct qvl_http **out, const struct qvl_hub_env *env, atomic_int *stop, qvl_err *err)
{
    (void)env, (void)stop;
    *out = NULL;
    return qvl_fail(err, QVL_E_UNSUPPORTED, "this build cannot download: it was made without libcurl");
}

void qvl_http_close(struct qvl_http **h) { *h = NULL; }

int qvl_http_run(struct qvl_http *h, const struct qvl_http_request *q, struct qvl_http_reply *reply, qvl_err *err)
{
    (void)h, (void)q;
    *reply = (struct qvl_http_reply){0};
    return qvl_fail(err, QVL_E_UNSUPPORTED, "this build cannot download: it was made without libcurl");
}

#endif
