/* utf8.c - decoding with replacement, whole and in pieces. Both forms share one rule: which byte may follow which. */
#include "text/utf8.h"

#include <string.h>

#include "text/tokenizer.h"

/* Length of the sequence that starts with this byte; 0 if none does (continuation, C0, C1, F5 and above). */
static int sequence_length(unsigned char lead)
{
    if (lead < 0x80)
        return 1;
    if (lead < 0xc2 || lead > 0xf4)
        return 0;
    return lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
}

/* May b stand at position i >= 1 of the sequence that starts with lead? The second byte is where overlong forms,
 * surrogates and values above U+10FFFF are excluded. */
static int may_follow(unsigned char lead, int i, unsigned char b)
{
    unsigned char lo = 0x80, hi = 0xbf;
    if (i == 1) {
        if (lead == 0xe0)
            lo = 0xa0;
        else if (lead == 0xed)
            hi = 0x9f;
        else if (lead == 0xf0)
            lo = 0x90;
        else if (lead == 0xf4)
            hi = 0x8f;
    }
    return b >= lo && b <= hi;
}

size_t qvl_utf8_next(const unsigned char *s, size_t n, uint32_t *cp)
{
    int need = sequence_length(s[0]);
    if (need == 1) {
        *cp = s[0];
        return 1;
    }
    *cp = QVL_UTF8_BAD;
    if (need == 0)
        return 1;
    uint32_t v = s[0] & (0x7fu >> need);
    for (int i = 1; i < need; i++) {
        if ((size_t)i >= n || !may_follow(s[0], i, s[i]))
            return (size_t)i;
        v = v << 6 | (s[i] & 0x3fu);
    }
    *cp = v;
    return (size_t)need;
}

size_t qvl_utf8_put(char *out, uint32_t cp)
{
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    size_t n = cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
    static const unsigned char lead[5] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = n - 1; i > 0; i--) {
        out[i] = (char)(0x80 | (cp & 0x3f));
        cp >>= 6;
    }
    out[0] = (char)(lead[n] | cp);
    return n;
}

size_t qvl_utf8_push(struct qvl_utf8_stream *s, char *out, const char *bytes, size_t len)
{
    size_t o = 0;
    for (size_t i = 0; i < len; i++) {
        unsigned char b = (unsigned char)bytes[i];
        if (s->n && !may_follow(s->tail[0], s->n, b))
            o += qvl_utf8_flush(s, out + o);
        s->tail[s->n++] = b;
        int need = sequence_length(s->tail[0]);
        if (need == 0) {
            o += qvl_utf8_flush(s, out + o);
        } else if (s->n == need) {
            memcpy(out + o, s->tail, (size_t)need);
            o += (size_t)need;
            s->n = 0;
        }
    }
    return o;
}

size_t qvl_utf8_flush(struct qvl_utf8_stream *s, char *out)
{
    if (!s->n)
        return 0;
    s->n = 0;
    return qvl_utf8_put(out, QVL_UTF8_BAD);
}
