/* hub_name.c - "ORG/NAME[/FILE][:QUANT][@REVISION]" → its parts, each checked so that it may become part of a path. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "hub/hub.h"

enum { MAX_ID = 96, MAX_COMPONENT = 255, MAX_PATH = 1024 }; /* an id's limit is the hub's own */

static int word_char(char c) { return isalnum((unsigned char)c) || c == '.' || c == '_' || c == '-'; }

int qvl_hub_is_hex(const char *s, size_t n)
{
    if (strlen(s) != n)
        return 0;
    for (; *s; s++)
        if (!(*s >= '0' && *s <= '9') && !(*s >= 'a' && *s <= 'f'))
            return 0;
    return 1;
}

int qvl_hub_safe_word(const char *s)
{
    size_t n = strlen(s);
    if (!n || n > MAX_COMPONENT || *s == '.')
        return 0;
    for (; *s; s++)
        if (!word_char(*s))
            return 0;
    return 1;
}

int qvl_hub_safe_path(const char *s)
{
    if (strlen(s) > MAX_PATH)
        return 0;
    for (;;) {
        size_t n = strcspn(s, "/");
        if (!n || n > MAX_COMPONENT || (n == 1 && s[0] == '.') || (n == 2 && s[0] == '.' && s[1] == '.'))
            return 0;
        for (size_t i = 0; i < n; i++)
            if (s[i] == '\\' || (unsigned char)s[i] < 0x20 || s[i] == 0x7f)
                return 0;
        if (!s[n])
            return 1;
        s += n + 1;
    }
}

/* The hub's own rule: letters, digits, "-_.", no "--" or "..", none of "-." at the ends, at most one slash. */
static int is_repo(const char *s)
{
    size_t n = strlen(s), slashes = 0;
    if (!n || n > MAX_ID || strstr(s, "--") || strstr(s, ".."))
        return 0;
    for (size_t i = 0; i < n; i++) {
        if (s[i] == '/')
            slashes++;
        else if (!word_char(s[i]))
            return 0;
        if ((i == 0 || i + 1 == n || s[i - 1] == '/' || s[i + 1] == '/') && (s[i] == '-' || s[i] == '.' || s[i] == '/'))
            return 0;
    }
    return slashes <= 1;
}

/* What git allows and a path can bear. */
static int is_revision(const char *s)
{
    if (!qvl_hub_safe_path(s) || strlen(s) >= QVL_HUB_REV || *s == '-' || strstr(s, "..") || strstr(s, "/."))
        return 0;
    return *s != '.' && !strpbrk(s, " ~^:?*[@{") && !qvl_hub_ends(s, ".lock") && s[strlen(s) - 1] != '.';
}

static int put(char *out, size_t size, const char *s, size_t n)
{
    if (n >= size)
        return -1;
    memcpy(out, s, n);
    out[n] = 0;
    return 0;
}

/* Leaves out "https://host/" and "hf.co/": people copy addresses. */
static const char *without_host(const char *s)
{
    const char *p = strstr(s, "://");
    if (p && p - s <= 5) {
        p += 3;
        p += strcspn(p, "/");
        return *p ? p + 1 : p;
    }
    return strncmp(s, "hf.co/", 6) == 0 ? s + 6 : s;
}

int qvl_hub_name_parse(struct qvl_hub_name *n, const char *text, const char *revision, qvl_err *err)
{
    const char *s = without_host(text), *at = strchr(s, '@'), *colon = strchr(s, ':');
    *n = (struct qvl_hub_name){0};
    size_t left = strcspn(s, "@:"), first = strcspn(s, "/@:"), second = left;
    if (s[first] == '/')
        second = first + 1 + strcspn(s + first + 1, "/@:");
    if (put(n->repo, sizeof n->repo, s, second < left ? second : left) || !is_repo(n->repo)) {
        n->repo[0] = 0;
        return qvl_fail(err, QVL_E_ARG, "%.200s: is no name of a repository: expected ORG/NAME, ORG/NAME@REVISION or ORG/NAME:QUANT", text);
    }
    if (second < left) {
        size_t from = second + 1, end = left;
        while (end > from && s[end - 1] == '/')
            end--;
        if (put(n->file, sizeof n->file, s + from, end - from) || (n->file[0] && !qvl_hub_safe_path(n->file)))
            return qvl_fail(err, QVL_E_ARG, "%.200s: the part behind %s cannot be a file of the repository", text, n->repo);
    }
    if (colon && (put(n->quant, sizeof n->quant, colon + 1, at > colon ? (size_t)(at - colon - 1) : strlen(colon + 1)) ||
                  !qvl_hub_safe_word(n->quant)))
        return qvl_fail(err, QVL_E_ARG, "%.200s: expected a quantisation or a file name behind \":\", as in %s:Q4_K_M", text, n->repo);
    if (at && (put(n->rev, sizeof n->rev, at + 1, colon > at ? (size_t)(colon - at - 1) : strlen(at + 1)) || !is_revision(n->rev)))
        return qvl_fail(err, QVL_E_ARG, "%.200s: expected a branch, a tag or a commit behind \"@\"", text);
    if (revision && *revision) {
        if (!is_revision(revision))
            return qvl_fail(err, QVL_E_ARG, "revision \"%.100s\": expected a branch, a tag or a commit", revision);
        if (n->rev[0] && strcmp(n->rev, revision) != 0)
            return qvl_fail(err, QVL_E_ARG, "%.200s: names another revision than \"%.100s\"", text, revision);
        snprintf(n->rev, sizeof n->rev, "%s", revision);
    }
    return 0;
}
