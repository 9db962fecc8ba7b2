/* dropped.c - see dropped.h. */
#include "dropped.h"

#include <ctype.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

static int hex(int c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* file://[host]/path with %XX, in place. */
static void undo_url(char *s)
{
    if (strncmp(s, "file://", 7) != 0)
        return;
    char *from = strchr(s + 7, '/'), *to = s;
    for (; from && *from; from++) {
        if (*from == '%' && hex(from[1]) >= 0 && hex(from[2]) >= 0 && (from[1] != '0' || from[2] != '0')) {
            *to++ = (char)(hex(from[1]) * 16 + hex(from[2]));
            from += 2;
        } else {
            *to++ = *from;
        }
    }
    *to = 0;
}

/* The word at s: its length in the line, and in `out` the word without quotes and backslashes. Quotes may also begin inside
 * (dir/'my file'.png). */
static size_t take_word(const char *s, char *out)
{
    const char *p = s;
    char quote = 0;
    while (*p && (quote || !isspace((unsigned char)*p))) {
        if (quote && *p == quote) {
            quote = 0;
        } else if (!quote && (*p == '\'' || *p == '"')) {
            quote = *p;
        } else if (*p == '\\' && p[1] && quote != '\'') {
            *out++ = *++p;
        } else {
            *out++ = *p;
        }
        p++;
    }
    *out = 0;
    return quote ? 0 : (size_t)(p - s); /* an apostrophe is no quote */
}

static size_t plain_word(const char *s, char *out)
{
    size_t n = strcspn(s, " \t");
    memcpy(out, s, n);
    out[n] = 0;
    return n;
}

/* Replaces ~/ and makes the path absolute. NULL without memory. */
static char *absolute(const char *path)
{
    char cwd[PATH_MAX] = "";
    const char *home = getenv("HOME"), *lead = "";
    if (path[0] == '~' && (path[1] == '/' || !path[1]) && home) {
        lead = home;
        path++;
    } else if (path[0] != '/' && getcwd(cwd, sizeof cwd - 1)) {
        strncat(cwd, "/", sizeof cwd - strlen(cwd) - 1);
        lead = cwd;
    }
    size_t n = strlen(lead) + strlen(path) + 1;
    char *out = malloc(n);
    if (out)
        snprintf(out, n, "%s%s", lead, path);
    return out;
}

static int looks_like_picture(const char *path)
{
    static const char *const ends[] = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".heic",
                                       ".heif", ".avif", ".ppm", ".pgm", ".pbm", ".pnm", ".qoi", ".jxl", ".jp2", ".tga"};
    static const struct {
        size_t at, n;
        const char *bytes;
    } magic[] = {{0, 3, "\xff\xd8\xff"}, {0, 8, "\x89PNG\r\n\x1a\n"}, {8, 4, "WEBP"}, {0, 4, "GIF8"}, {0, 4, "II*\0"},
                 {0, 4, "MM\0*"},        {4, 8, "ftypheic"},          {4, 8, "ftypmif1"}, {4, 8, "ftypavif"}, {0, 4, "qoif"}};
    char head[16] = "";
    struct stat st;
    if (stat(path, &st) != 0 || !S_ISREG(st.st_mode))
        return 0;
    const char *dot = strrchr(path, '.');
    for (size_t i = 0; dot && i < sizeof ends / sizeof *ends; i++)
        if (strcasecmp(dot, ends[i]) == 0)
            return 1;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t got = fd < 0 ? -1 : read(fd, head, sizeof head);
    if (fd >= 0)
        close(fd);
    for (size_t i = 0; i < sizeof magic / sizeof *magic; i++)
        if (got >= (ssize_t)(magic[i].at + magic[i].n) && memcmp(head + magic[i].at, magic[i].bytes, magic[i].n) == 0)
            return 1;
    return 0;
}

/* A picture's path when `word` names one; *no_memory is set when that cannot be told. */
static char *picture_of(char *word, int *no_memory)
{
    undo_url(word);
    if (!*word)
        return NULL;
    char *path = absolute(word);
    *no_memory |= !path;
    if (path && looks_like_picture(path))
        return path;
    free(path);
    return NULL;
}

/* Text loses the blanks at its ends; nothing is kept of text that is blank. */
static int add_piece(struct qvl_pieces *p, int is_picture, const char *text, size_t n)
{
    while (!is_picture && n && isspace((unsigned char)*text)) {
        text++;
        n--;
    }
    while (!is_picture && n && isspace((unsigned char)text[n - 1]))
        n--;
    if (!n)
        return 0;
    struct qvl_piece *v = realloc(p->v, (p->n + 1) * sizeof *v);
    if (!v)
        return -1;
    p->v = v;
    v[p->n].is_picture = is_picture;
    v[p->n].text = strndup(text, n);
    return v[p->n].text ? (p->n++, 0) : -1;
}

/* Pictures behind the last text go in front of everything, in their order. */
static void move_last_pictures(struct qvl_pieces *p)
{
    size_t texts = p->n;
    while (texts && p->v[texts - 1].is_picture)
        texts--;
    for (size_t i = texts, to = 0; texts && i < p->n; i++, to++) {
        struct qvl_piece moved = p->v[i];
        memmove(p->v + to + 1, p->v + to, (i - to) * sizeof *p->v);
        p->v[to] = moved;
    }
}

static int split(struct qvl_pieces *p, const char *line, char *word)
{
    size_t text_from = 0, at = 0;
    int no_memory = 0;
    size_t len = strlen(line); /* a whole line may be one path with plain blanks */
    memcpy(word, line, len + 1);
    while (len && isspace((unsigned char)word[len - 1]))
        word[--len] = 0;
    char *whole = strchr(word, ' ') ? picture_of(word, &no_memory) : NULL;
    if (whole) {
        int rc = add_piece(p, 1, whole, strlen(whole));
        free(whole);
        return rc;
    }
    while (line[at] && !no_memory) {
        if (isspace((unsigned char)line[at])) {
            at++;
            continue;
        }
        size_t n = take_word(line + at, word);
        char *path = n ? picture_of(word, &no_memory) : NULL;
        if (!path) {
            n = plain_word(line + at, word);
            path = picture_of(word, &no_memory);
        }
        if (!path) { /* "what is in cat.png?" */
            size_t cut = n;
            while (cut && strchr("?!.,;:)", line[at + cut - 1]))
                cut--;
            if (cut < n) {
                memcpy(word, line + at, cut);
                word[cut] = 0;
                path = picture_of(word, &no_memory);
                n = path ? cut : n;
            }
        }
        if (path) {
            int rc = add_piece(p, 0, line + text_from, at - text_from);
            if (rc == 0)
                rc = add_piece(p, 1, path, strlen(path));
            free(path);
            if (rc)
                return rc;
            text_from = at + n;
        }
        at += n;
    }
    return no_memory ? -1 : add_piece(p, 0, line + text_from, at - text_from);
}

int qvl_pieces_split(struct qvl_pieces *p, const char *line)
{
    *p = (struct qvl_pieces){0};
    char *word = malloc(strlen(line) + 1);
    int rc = word ? split(p, line, word) : -1;
    free(word);
    if (rc)
        qvl_pieces_free(p);
    else
        move_last_pictures(p);
    return rc;
}

void qvl_pieces_free(struct qvl_pieces *p)
{
    for (size_t i = 0; i < p->n; i++)
        free(p->v[i].text);
    free(p->v);
    *p = (struct qvl_pieces){0};
}

char *qvl_typed_path(const char *typed)
{
    while (isspace((unsigned char)*typed))
        typed++;
    size_t n = strlen(typed);
    char *word = malloc(n + 1), *path = NULL;
    if (!word)
        return NULL;
    size_t len = take_word(typed, word);
    while (len && isspace((unsigned char)typed[len]))
        len++;
    if (!len || typed[len]) { /* not one word: a path with plain blanks or an apostrophe */
        memcpy(word, typed, n + 1);
        while (n && isspace((unsigned char)word[n - 1]))
            word[--n] = 0;
    }
    undo_url(word);
    path = absolute(word);
    free(word);
    return path;
}
