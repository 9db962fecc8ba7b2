/* json_scan.c - see json_scan.h. */
#include "text/json_scan.h"

#include <string.h>

#include "text/utf8.h"

enum { MAX_DEPTH = 64 };

static void space(struct qvl_scan *c)
{
    while (c->at < c->n && (c->s[c->at] == ' ' || c->s[c->at] == '\n' || c->s[c->at] == '\r' || c->s[c->at] == '\t'))
        c->at++;
}

int qvl_scan_take(struct qvl_scan *c, char byte)
{
    space(c);
    if (c->at >= c->n || c->s[c->at] != byte)
        return 0;
    c->at++;
    return 1;
}

int qvl_scan_end(struct qvl_scan *c)
{
    space(c);
    return c->at == c->n;
}

/* Four hexadecimal digits; -1 if they are not. */
static long hex4(struct qvl_scan *c)
{
    long v = 0;
    if (c->n - c->at < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        char d = c->s[c->at++];
        int k = d >= '0' && d <= '9' ? d - '0' : (d | 32) >= 'a' && (d | 32) <= 'f' ? (d | 32) - 'a' + 10 : -1;
        if (k < 0)
            return -1;
        v = v * 16 + k;
    }
    return v;
}

/* The escape after a backslash. */
static int escape(struct qvl_scan *c, struct qvl_buf *out)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    char utf8[4], e = c->at < c->n ? c->s[c->at++] : 0;
    const char *k = e ? strchr(from, e) : NULL;
    if (k)
        return qvl_buf_putc(out, to[k - from]), 0;
    if (e != 'u')
        return -1;
    long cp = hex4(c), low;
    if (cp >= 0xd800 && cp < 0xdc00) {
        if (c->n - c->at < 2 || c->s[c->at] != '\\' || c->s[c->at + 1] != 'u')
            return -1;
        c->at += 2;
        low = hex4(c);
        if (low < 0xdc00 || low >= 0xe000)
            return -1;
        cp = 0x10000 + ((cp - 0xd800) << 10) + (low - 0xdc00);
    } else if (cp <= 0 || (cp >= 0xdc00 && cp < 0xe000)) {
        return -1;
    }
    qvl_buf_add(out, utf8, qvl_utf8_put(utf8, (uint32_t)cp));
    return 0;
}

int qvl_scan_string(struct qvl_scan *c, struct qvl_buf *out)
{
    if (!qvl_scan_take(c, '"'))
        return -1;
    while (c->at < c->n) {
        size_t start = c->at;
        while (c->at < c->n && c->s[c->at] != '"' && c->s[c->at] != '\\') {
            if ((unsigned char)c->s[c->at] < 0x20)
                return -1;
            c->at++;
        }
        if (c->at > start)
            qvl_buf_add(out, c->s + start, c->at - start);
        if (c->at < c->n && c->s[c->at++] == '"')
            return 0;
        if (escape(c, out) != 0)
            return -1;
    }
    return -1;
}

int qvl_scan_int(struct qvl_scan *c, long *value)
{
    space(c);
    size_t start = c->at;
    int minus = c->at < c->n && c->s[c->at] == '-';
    c->at += (size_t)minus;
    size_t first = c->at;
    long v = 0;
    for (; c->at < c->n && c->s[c->at] >= '0' && c->s[c->at] <= '9' && c->at - first < 10; c->at++)
        v = v * 10 + (c->s[c->at] - '0');
    size_t digits = c->at - first;
    char next = c->at < c->n ? c->s[c->at] : 0;
    if (digits == 0 || digits > 9 || (digits > 1 && c->s[first] == '0') || next == '.' || (next | 32) == 'e') {
        c->at = start;
        return -1;
    }
    *value = minus ? -v : v;
    return 0;
}

/* Steps behind the string that starts at c->at. */
static int skip_string(struct qvl_scan *c)
{
    for (c->at++; c->at < c->n; c->at++) {
        if (c->s[c->at] == '"') {
            c->at++;
            return 0;
        }
        c->at += c->s[c->at] == '\\';
    }
    return -1;
}

int qvl_scan_skip(struct qvl_scan *c, size_t *n_commas)
{
    int depth = 0;
    size_t commas = 0;
    space(c);
    while (c->at < c->n) {
        char b = c->s[c->at];
        if (depth == 0 && (b == ',' || b == '}' || b == ']'))
            break; /* the end of a number or a word */
        if (b == '"') {
            if (skip_string(c) != 0)
                return -1;
        } else {
            if ((b == '{' || b == '[') && ++depth > MAX_DEPTH)
                return -1;
            commas += b == ',' && depth == 1;
            depth -= b == '}' || b == ']';
            c->at++;
        }
        if (depth == 0 && (b == '"' || b == '}' || b == ']'))
            break;
    }
    if (n_commas)
        *n_commas = commas;
    return depth == 0 ? 0 : -1;
}

int qvl_scan_key(struct qvl_scan *c, const char **key, size_t *len)
{
    space(c);
    size_t start = c->at + 1;
    if (c->at >= c->n || c->s[c->at] != '"' || skip_string(c) != 0)
        return -1;
    *key = c->s + start;
    *len = c->at - 1 - start;
    return qvl_scan_take(c, ':') ? 0 : -1;
}
