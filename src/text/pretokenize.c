/* pretokenize.c - the splitting expression by hand: at each position the first alternative that matches wins.
 *
 * Every code point matches one of the alternatives, so the words are the whole text. Time is linear: a run of white space
 * is scanned at most twice. */
#include "text/pretokenize.h"

#include "text/unicode.h"

static unsigned class_at(const uint32_t *cp, size_t n, size_t i)
{
    return i < n ? qvl_uc_lookup(QVL_CP(cp[i])) : 0;
}

static int is_newline(const uint32_t *cp, size_t n, size_t i)
{
    return i < n && (QVL_CP(cp[i]) == '\n' || QVL_CP(cp[i]) == '\r');
}

/* Small letter for the letters of the contractions; the reference folds U+017F (long s) as well, and nothing else. */
static uint32_t fold(const uint32_t *cp, size_t n, size_t i)
{
    if (i >= n)
        return 0;
    uint32_t c = QVL_CP(cp[i]);
    return c == 0x17f ? 's' : c - 'A' < 26 ? c + 32 : c;
}

/* (?i:'s|'t|'re|'ve|'m|'ll|'d): its length at i, 0 if it does not match. */
static size_t contraction(const uint32_t *cp, size_t n, size_t i)
{
    if (QVL_CP(cp[i]) != '\'')
        return 0;
    uint32_t a = fold(cp, n, i + 1), b = fold(cp, n, i + 2);
    if (a == 's' || a == 't' || a == 'm' || a == 'd')
        return 2;
    return ((a == 'r' || a == 'v') && b == 'e') || (a == 'l' && b == 'l') ? 3 : 0;
}

/* White space at i. What is left of \s*[\r\n]+ | \s+(?!\S) | \s+ : up to the last line end of the run; else the run, which
 * leaves its last character to the word that follows. */
static size_t white_space(const uint32_t *cp, size_t n, size_t i)
{
    size_t end = i, after_newline = 0;
    while (end < n && (class_at(cp, n, end) & QVL_UC_SPACE)) {
        if (is_newline(cp, n, end))
            after_newline = end + 1;
        end++;
    }
    if (after_newline)
        return after_newline;
    return end < n && end - i > 1 ? end - 1 : end;
}

size_t qvl_pretokenize_next(const uint32_t *cp, size_t n, size_t i)
{
    size_t k = contraction(cp, n, i);
    if (k)
        return i + k;
    unsigned c = class_at(cp, n, i);
    if (c & QVL_UC_NUMBER)
        return i + 1;
    /* [^\r\n\p{L}\p{N}]?\p{L}+ */
    if ((c & QVL_UC_LETTER) || (!is_newline(cp, n, i) && (class_at(cp, n, i + 1) & QVL_UC_LETTER))) {
        i++;
        while (class_at(cp, n, i) & QVL_UC_LETTER)
            i++;
        return i;
    }
    /*  ?[^\s\p{L}\p{N}]+[\r\n]* */
    const unsigned any = QVL_UC_SPACE | QVL_UC_LETTER | QVL_UC_NUMBER;
    size_t j = i + (QVL_CP(cp[i]) == ' ');
    if (j < n && !(class_at(cp, n, j) & any)) {
        while (j < n && !(class_at(cp, n, j) & any))
            j++;
        while (is_newline(cp, n, j))
            j++;
        return j;
    }
    return white_space(cp, n, i);
}
