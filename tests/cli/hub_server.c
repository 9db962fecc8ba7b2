/* hub_server.c - see hub_server.h. A thread for each port, a thread for each connection, one request a connection. */
#include "hub_server.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { LFS_BYTES = 10000, MAX_REQUESTS = 4096, TEXT = 1 << 16, PIECE = 4096 };

struct hub {
    char root[512];
    struct hub_rule rules[HUB_RULES]; /* times = 0: none */
    int fd[2], port[2];
    pthread_t thread[2];
    pthread_mutex_t lock;  /* of everything that tests set and read */
    struct hub_request log[MAX_REQUESTS], shown[MAX_REQUESTS];
    size_t n_log;
    const char *listing_repo, *listing;
    atomic_size_t rate;
    atomic_int stop, open;
};

struct talk {
    struct hub *h;
    int fd, store;
    struct hub_request q;
    char url[512], repo[256], file[256];
};

/* ---------------------------------------------------------------- files and their hashes */

static char *read_file(const char *path, size_t *len)
{
    FILE *f = fopen(path, "rb");
    struct stat st;
    if (!f || fstat(fileno(f), &st) != 0 || !S_ISREG(st.st_mode)) {
        if (f)
            fclose(f);
        return NULL;
    }
    char *p = malloc((size_t)st.st_size + 1);
    *len = p ? fread(p, 1, (size_t)st.st_size, f) : 0;
    fclose(f);
    return p;
}

static int is_lfs(const char *path, size_t size)
{
    size_t n = strlen(path);
    return size > LFS_BYTES || (n > 12 && strcmp(path + n - 12, ".safetensors") == 0);
}

static void hash(char out[65], const char *format, size_t size, const char *path)
{
    char command[4096];
    *out = 0;
    snprintf(command, sizeof command, format, size, path);
    FILE *f = popen(command, "r");
    if (!f || fscanf(f, "%64s", out) != 1)
        *out = 0;
    if (f)
        pclose(f);
}

static void sha256(char out[65], const char *path) { hash(out, "true %zu && sha256sum < '%s'", 0, path); }
static void git_sha1(char out[65], size_t size, const char *path)
{
    hash(out, "{ printf 'blob %zu\\0'; cat '%s'; } | sha1sum", size, path);
}

/* ---------------------------------------------------------------- sending */

static int put(struct talk *t, const char *p, size_t n)
{
    size_t rate = atomic_load(&t->h->rate);
    while (n && !atomic_load(&t->h->stop)) {
        size_t take = rate && n > rate / 50 + 1 ? rate / 50 + 1 : n > PIECE ? PIECE : n;
        ssize_t done = send(t->fd, p, take, MSG_NOSIGNAL);
        if (done <= 0)
            return -1;
        p += done;
        n -= (size_t)done;
        if (rate) {
            struct timespec s = {.tv_nsec = 20000000};
            nanosleep(&s, NULL);
        }
    }
    return n ? -1 : 0;
}

static void head(struct talk *t, int status, const char *headers, size_t length)
{
    char text[TEXT];
    t->q.status = status;
    pthread_mutex_lock(&t->h->lock); /* before the reply goes out: who has it finds the request in the list */
    if (t->h->n_log < MAX_REQUESTS)
        t->h->log[t->h->n_log++] = t->q;
    pthread_mutex_unlock(&t->h->lock);
    int n = snprintf(text, sizeof text, "HTTP/1.1 %d X\r\nConnection: close\r\n%s", status, headers ? headers : "");
    if (length != (size_t)-1)
        n += snprintf(text + n, sizeof text - (size_t)n, "Content-Length: %zu\r\n", length);
    n += snprintf(text + n, sizeof text - (size_t)n, "\r\n");
    put(t, text, (size_t)n);
}

static void reply(struct talk *t, int status, const char *headers, const char *body)
{
    head(t, status, headers, strlen(body));
    if (strcmp(t->q.method, "HEAD") != 0)
        put(t, body, strlen(body));
}

static void stall(struct talk *t)
{
    while (!atomic_load(&t->h->stop)) {
        struct pollfd p = {.fd = t->fd, .events = POLLIN};
        char c;
        if (poll(&p, 1, 50) > 0 && recv(t->fd, &c, 1, 0) <= 0)
            return;
    }
}

/* ---------------------------------------------------------------- rules */

static enum hub_fault fault_of(struct talk *t, struct hub_rule *found)
{
    enum hub_fault f = HUB_FINE;
    pthread_mutex_lock(&t->h->lock);
    for (size_t i = 0; i < HUB_RULES && f == HUB_FINE; i++) {
        struct hub_rule *r = &t->h->rules[i];
        if (!r->times || strcmp(r->repo, t->repo) != 0 || (r->file == NULL) != (t->file[0] == 0) ||
            (r->file && strcmp(r->file, t->file) != 0) || (r->store_only && !t->store) ||
            (strcmp(t->q.method, "HEAD") == 0 && r->fault != HUB_STATUS))
            continue;
        r->times -= r->times > 0;
        f = r->fault;
        *found = *r;
    }
    pthread_mutex_unlock(&t->h->lock);
    return f;
}

/* ---------------------------------------------------------------- content */

static void send_file(struct talk *t, char *data, size_t size, enum hub_fault fault, const char *headers)
{
    char more[2048];
    size_t from = 0;
    int ranged = fault != HUB_IGNORE_RANGE && sscanf(t->q.range, "bytes=%zu-", &from) == 1;
    if (ranged && from >= size) {
        reply(t, 416, NULL, "");
        return;
    }
    from = ranged ? from : 0;
    size_t shown = from + (fault == HUB_WRONG_RANGE && ranged);
    snprintf(more, sizeof more, "%s", headers);
    if (ranged)
        snprintf(more + strlen(more), sizeof more - strlen(more), "Content-Range: bytes %zu-%zu/%zu\r\n", shown, size - 1, size);
    if (fault == HUB_FLIP && size)
        data[size / 2] ^= 1;
    size_t n = size - from;
    head(t, ranged ? 206 : 200, more, fault == HUB_ENDLESS ? (size_t)-1 : fault == HUB_LONGER ? n + 10 : n);
    if (strcmp(t->q.method, "HEAD") == 0)
        return;
    if (put(t, data + from, fault == HUB_CUT || fault == HUB_STALL ? n / 2 : n))
        return;
    if (fault == HUB_STALL)
        stall(t);
    if (fault == HUB_LONGER)
        put(t, "0123456789", 10);
    while (fault == HUB_ENDLESS && put(t, "0123456789", 10) == 0)
        ;
}

/* GET or HEAD of a file, on either port. */
static void resolve(struct talk *t)
{
    char path[1200], digest[65], headers[1024];
    struct hub_rule rule = {0};
    size_t size = 0;
    enum hub_fault fault = fault_of(t, &rule);
    if (fault == HUB_STATUS) {
        reply(t, rule.status, rule.headers, "no");
        return;
    }
    snprintf(path, sizeof path, "%s/%s/%s", t->h->root, t->repo, t->file);
    char *data = read_file(path, &size);
    if (!data) {
        reply(t, 404, "X-Error-Code: EntryNotFound\r\n", "no such file");
        return;
    }
    int lfs = is_lfs(t->file, size);
    if (lfs)
        sha256(digest, path);
    else
        git_sha1(digest, size, path);
    if (lfs && !t->store) {
        snprintf(headers, sizeof headers, "Location: http://127.0.0.1:%d/store/%s/%s?signature=secret\r\nX-Repo-Commit: %s\r\n"
                 "X-Linked-Etag: \"%s\"\r\nX-Linked-Size: %zu\r\nETag: \"not-this-one\"\r\n", t->h->port[1], t->repo, t->file, HUB_COMMIT,
                 digest, size);
        reply(t, 302, headers, "moved");
    } else {
        snprintf(headers, sizeof headers, "X-Repo-Commit: %s\r\nETag: W/\"%s\"\r\n", HUB_COMMIT, lfs ? "an-etag-of-the-store" : digest);
        send_file(t, data, size, fault, headers);
    }
    free(data);
}

/* ---------------------------------------------------------------- lists */

static void add_entry(char *out, const char *path, const char *rel, int tree)
{
    char sha[65], git[65];
    struct stat st;
    size_t n = strlen(out);
    if (stat(path, &st) != 0)
        return;
    size_t size = (size_t)st.st_size;
    git_sha1(git, size, path);
    sha256(sha, path);
    n += (size_t)snprintf(out + n, TEXT - n, "%s{\"%s\": \"%s\", \"size\": %zu, \"%s\": \"%s\"", n && out[n - 1] == '}' ? ", " : "",
                          tree ? "type\": \"file\", \"path" : "rfilename", rel, size, tree ? "oid" : "blobId", git);
    if (is_lfs(rel, size))
        n += (size_t)snprintf(out + n, TEXT - n, ", \"lfs\": {\"%s\": \"%s\", \"size\": %zu, \"pointerSize\": 134}", tree ? "oid" : "sha256",
                              sha, size);
    snprintf(out + n, TEXT - n, "}");
}

static void list_folder(char *out, const char *root, const char *sub, int tree)
{
    char dir[1024], rel[1024], path[2200];
    snprintf(dir, sizeof dir, "%s%s%s", root, *sub ? "/" : "", sub);
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));) {
        struct stat st;
        if (e->d_name[0] == '.')
            continue;
        snprintf(rel, sizeof rel, "%s%s%s", sub, *sub ? "/" : "", e->d_name);
        snprintf(path, sizeof path, "%s/%s", root, rel);
        if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
            list_folder(out, root, rel, tree);
        else
            add_entry(out, path, rel, tree);
    }
    if (d)
        closedir(d);
}

static void list(struct talk *t, const char *rest)
{
    static const char *const known[] = {"main", HUB_COMMIT, "refs%2Fpr%2F1", "v1.0"};
    char *text = malloc(TEXT * 2), *files = calloc(1, TEXT), root[1024];
    struct hub_rule rule = {0};
    int tree = strncmp(rest, "tree/", 5) == 0, ok = 0;
    const char *rev = tree ? rest + 5 : strncmp(rest, "revision/", 9) == 0 ? rest + 9 : "main";
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        ok |= strncmp(rev, known[i], strlen(known[i])) == 0 && (!rev[strlen(known[i])] || rev[strlen(known[i])] == '?');
    snprintf(root, sizeof root, "%s/%s", t->h->root, t->repo);
    struct stat st;
    pthread_mutex_lock(&t->h->lock);
    const char *fixed = t->h->listing_repo && strcmp(t->h->listing_repo, t->repo) == 0 ? t->h->listing : NULL;
    pthread_mutex_unlock(&t->h->lock);
    if (fault_of(t, &rule) == HUB_STATUS)
        reply(t, rule.status, rule.headers, "no");
    else if (fixed)
        reply(t, 200, NULL, fixed);
    else if (stat(root, &st) != 0)
        reply(t, t->q.authorization[0] ? 404 : 401, "X-Error-Code: RepoNotFound\r\nX-Error-Message: Repository not found\r\n", "no");
    else if (!ok)
        reply(t, 404, "X-Error-Code: RevisionNotFound\r\n", "no");
    else {
        list_folder(files, root, "", tree);
        snprintf(text, TEXT * 2, tree ? "[%s]" : "{\"id\": \"%s\", \"sha\": \"" HUB_COMMIT "\", \"gated\": false, \"siblings\": [%s]}",
                 tree ? files : t->repo, files);
        reply(t, 200, "Content-Type: application/json\r\n", text);
    }
    free(text);
    free(files);
}

/* ---------------------------------------------------------------- requests */

/* "ORG/NAME/" from p; returns what follows, or NULL. */
static const char *take_repo(struct talk *t, const char *p)
{
    const char *slash = strchr(p, '/'), *end = slash ? strchr(slash + 1, '/') : NULL;
    if (!end)
        return NULL;
    snprintf(t->repo, sizeof t->repo, "%.*s", (int)(end - p), p);
    return end + 1;
}

static void answer(struct talk *t)
{
    const char *p = t->url, *rest;
    if (!t->store && strncmp(p, "/api/models/", 12) == 0 && (rest = take_repo(t, p + 12))) {
        list(t, rest);
    } else if (t->store && strncmp(p, "/store/", 7) == 0 && (rest = take_repo(t, p + 7))) {
        snprintf(t->file, sizeof t->file, "%.*s", (int)strcspn(rest, "?"), rest);
        resolve(t);
    } else if (!t->store && (rest = take_repo(t, p + 1)) && strncmp(rest, "resolve/", 8) == 0 && strchr(rest + 8, '/')) {
        snprintf(t->file, sizeof t->file, "%.*s", (int)strcspn(strchr(rest + 8, '/') + 1, "?"), strchr(rest + 8, '/') + 1);
        resolve(t);
    } else {
        reply(t, 404, NULL, "?");
    }
}

static void take_header(char *out, size_t size, const char *request, const char *name)
{
    for (const char *p = request; (p = strstr(p, "\r\n")); p++)
        if (strncasecmp(p + 2, name, strlen(name)) == 0)
            snprintf(out, size, "%.*s", (int)strcspn(p + 2 + strlen(name), "\r"), p + 2 + strlen(name));
}

static void *talk(void *ud)
{
    struct talk *t = ud;
    char request[16384];
    size_t n = 0;
    while (n + 1 < sizeof request) {
        ssize_t got = recv(t->fd, request + n, sizeof request - 1 - n, 0);
        if (got <= 0)
            break;
        n += (size_t)got;
        request[n] = 0;
        if (strstr(request, "\r\n\r\n"))
            break;
    }
    request[n] = 0;
    t->q.store = t->store;
    if (sscanf(request, "%7s %511s", t->q.method, t->url) == 2) {
        snprintf(t->q.path, sizeof t->q.path, "%s", t->url);
        take_header(t->q.authorization, sizeof t->q.authorization, request, "authorization: ");
        take_header(t->q.range, sizeof t->q.range, request, "range: ");
        answer(t);
    }
    shutdown(t->fd, SHUT_WR);
    struct pollfd p = {.fd = t->fd, .events = POLLIN};
    while (poll(&p, 1, 200) > 0 && recv(t->fd, request, sizeof request, 0) > 0) /* closing with unread data would reset */
        ;
    close(t->fd);
    atomic_fetch_sub(&t->h->open, 1);
    free(t);
    return NULL;
}

struct listener {
    struct hub *h;
    int store;
};

static void *listen_on(void *ud)
{
    struct listener *l = ud;
    struct hub *h = l->h;
    int store = l->store;
    free(l);
    while (!atomic_load(&h->stop)) {
        struct pollfd p = {.fd = h->fd[store], .events = POLLIN};
        if (poll(&p, 1, 50) <= 0)
            continue;
        struct talk *t = calloc(1, sizeof *t);
        pthread_t thread;
        if (!t)
            abort();
        *t = (struct talk){.h = h, .store = store, .fd = accept(h->fd[store], NULL, NULL)};
        if (t->fd < 0) {
            free(t);
            continue;
        }
        atomic_fetch_add(&h->open, 1);
        if (pthread_create(&thread, NULL, talk, t) != 0)
            abort();
        pthread_detach(thread);
    }
    return NULL;
}

struct hub *hub_start(const char *root)
{
    struct hub *h = calloc(1, sizeof *h);
    if (!h)
        abort();
    signal(SIGPIPE, SIG_IGN);
    snprintf(h->root, sizeof h->root, "%s", root);
    pthread_mutex_init(&h->lock, NULL);
    for (int i = 0; i < 2; i++) {
        struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t n = sizeof a;
        struct listener *l = malloc(sizeof *l);
        h->fd[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (!l || h->fd[i] < 0 || bind(h->fd[i], (struct sockaddr *)&a, n) != 0 || listen(h->fd[i], 64) != 0 ||
            getsockname(h->fd[i], (struct sockaddr *)&a, &n) != 0)
            abort();
        h->port[i] = ntohs(a.sin_port);
        *l = (struct listener){.h = h, .store = i};
        if (pthread_create(&h->thread[i], NULL, listen_on, l) != 0)
            abort();
    }
    return h;
}

void hub_stop(struct hub *h)
{
    atomic_store(&h->stop, 1);
    for (int i = 0; i < 2; i++) {
        pthread_join(h->thread[i], NULL);
        close(h->fd[i]);
    }
    while (atomic_load(&h->open)) {
        struct timespec t = {.tv_nsec = 1000000};
        nanosleep(&t, NULL);
    }
    pthread_mutex_destroy(&h->lock);
    free(h);
}

int hub_port(const struct hub *h) { return h->port[0]; }

void hub_set_rule(struct hub *h, size_t i, const struct hub_rule *rule)
{
    pthread_mutex_lock(&h->lock);
    h->rules[i] = *rule;
    pthread_mutex_unlock(&h->lock);
}

void hub_set_listing(struct hub *h, const char *repo, const char *text)
{
    pthread_mutex_lock(&h->lock);
    h->listing_repo = repo;
    h->listing = text;
    pthread_mutex_unlock(&h->lock);
}

void hub_set_rate(struct hub *h, size_t bytes_per_second) { atomic_store(&h->rate, bytes_per_second); }

size_t hub_requests(struct hub *h, const struct hub_request **list)
{
    pthread_mutex_lock(&h->lock);
    size_t n = h->n_log;
    memcpy(h->shown, h->log, n * sizeof *h->log);
    pthread_mutex_unlock(&h->lock);
    *list = h->shown;
    return n;
}

void hub_forget(struct hub *h)
{
    pthread_mutex_lock(&h->lock);
    memset(h->rules, 0, sizeof h->rules);
    h->n_log = 0;
    pthread_mutex_unlock(&h->lock);
}
