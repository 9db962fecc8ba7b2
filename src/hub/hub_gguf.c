/* hub_gguf.c - a GGUF repository holds one model many times, in different quantisations: which files make one of them.
 *
 * Names decide, as everywhere on the hub: "…-Q4_K_M.gguf", "…-Q4_K_M-00001-of-00002.gguf", "mmproj-…-F16.gguf". */
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/err.h"
#include "base/file.h"
#include "hub/hub.h"

int qvl_hub_ends(const char *path, const char *tail)
{
    size_t n = strlen(path), m = strlen(tail);
    return n >= m && strcasecmp(path + n - m, tail) == 0;
}

/* Where `word` begins in s, in any case of letters; bounded: only where no letter, digit or "_" touches it. */
static const char *find_word(const char *s, const char *word, int bounded)
{
    size_t n = strlen(word);
    for (const char *p = s; *p; p++) {
        if (strncasecmp(p, word, n) != 0)
            continue;
        int before = p > s && isalnum((unsigned char)p[-1]), after = isalnum((unsigned char)p[n]) || p[n] == '_';
        if (!bounded || (!before && !after))
            return p;
    }
    return NULL;
}

static int is_vision(const char *path) { return find_word(qvl_path_base(path), "mmproj", 0) != NULL; }

static int is_text(const char *path)
{
    return qvl_hub_ends(path, ".gguf") && !is_vision(path) && !find_word(qvl_path_base(path), "imatrix", 0);
}

/* Length of the path without "-00001-of-00002.gguf" or ".gguf": the same for all parts of a model. *part = 1.. */
static size_t model_length(const char *path, int *part)
{
    size_t n = strlen(path) - 5;
    int of;
    char tail[16];
    *part = 1;
    if (n < 15)
        return n;
    snprintf(tail, sizeof tail, "%.15s", path + n - 15);
    return sscanf(tail, "-%5d-of-%5d", part, &of) == 2 && strlen(tail) == 15 ? n - 15 : n;
}

static int same_model(const char *a, const char *b)
{
    int part;
    size_t n = model_length(a, &part);
    return n == model_length(b, &part) && strncmp(a, b, n) == 0;
}

/* The first part of the text model whose name has the word, of several the shortest; -1: none. */
static int pick(const char *const *paths, size_t n, const char *word, int bounded)
{
    int best = -1, part;
    for (size_t i = 0; i < n; i++) {
        if (!is_text(paths[i]))
            continue;
        size_t length = model_length(paths[i], &part);
        const char *base = qvl_path_base(paths[i]), *hit = find_word(base, word, bounded);
        if (part != 1 || (!hit && strcasecmp(base, word) != 0) || (hit && hit >= paths[i] + length && !qvl_hub_ends(word, ".gguf")))
            continue;
        if (best < 0 || strlen(paths[i]) < strlen(paths[best]) ||
            (strlen(paths[i]) == strlen(paths[best]) && strcmp(paths[i], paths[best]) < 0))
            best = (int)i;
    }
    return best;
}

/* The only text model; -1 when there are several, -2 when there is none. */
static int only(const char *const *paths, size_t n)
{
    int found = -2, part;
    for (size_t i = 0; i < n; i++) {
        if (!is_text(paths[i]))
            continue;
        model_length(paths[i], &part);
        if (found >= 0 && !same_model(paths[found], paths[i]))
            return -1;
        if (found < 0 || part == 1)
            found = (int)i;
    }
    return found;
}

/* F16 first, as gguf_find.c prefers it; then the other full precisions, Q8_0, the rest. */
static int pick_vision(const char *const *paths, size_t n)
{
    static const char *const order[] = {"f16", "bf16", "f32", "q8_0"};
    int best = -1, rank = 0;
    for (size_t i = 0; i < n; i++) {
        int r = 0;
        if (!qvl_hub_ends(paths[i], ".gguf") || !is_vision(paths[i]))
            continue;
        while (r < (int)QVL_COUNT(order) && !find_word(qvl_path_base(paths[i]), order[r], 1))
            r++;
        if (best < 0 || r < rank || (r == rank && strcmp(paths[i], paths[best]) < 0)) {
            best = (int)i;
            rank = r;
        }
    }
    return best;
}

/* Names of what there is, as far as a message has room for. */
static void list_models(char *out, size_t size, const char *const *paths, size_t n)
{
    size_t at = 0;
    int part;
    *out = 0;
    for (size_t i = 0; i < n; i++) {
        if (!is_text(paths[i]) || (model_length(paths[i], &part), part != 1))
            continue;
        const char *base = qvl_path_base(paths[i]);
        if (at + strlen(base) + 8 > size) {
            snprintf(out + at, size - at, ", ...");
            return;
        }
        at += (size_t)snprintf(out + at, size - at, "%s%s", at ? ", " : "", base);
    }
}

int qvl_hub_gguf_choose(const char *const *paths, size_t n, const char *quant, unsigned char *chosen, int *text, int *mmproj,
                        const char *what, qvl_err *err)
{
    char names[256];
    int k;
    memset(chosen, 0, n);
    if (*quant) {
        k = pick(paths, n, quant, 1);
        k = k >= 0 ? k : pick(paths, n, quant, 0);
    } else {
        k = only(paths, n);
        k = k == -1 ? pick(paths, n, "Q4_K_M", 1) : k;
        k = k == -1 ? pick(paths, n, "Q8_0", 1) : k;
    }
    if (k < 0) {
        list_models(names, sizeof names, paths, n);
        if (!*names)
            return qvl_fail(err, QVL_E_NOTFOUND, "%s: has no GGUF file of a text model", what);
        return qvl_fail(err, *quant ? QVL_E_NOTFOUND : QVL_E_ARG, "%s: %s%s: name one as %s:QUANT or by its file; there are %s", what,
                        *quant ? "no file is named " : "holds several models", quant, what, names);
    }
    for (size_t i = 0; i < n; i++)
        chosen[i] = is_text(paths[i]) && same_model(paths[i], paths[k]);
    *text = k;
    *mmproj = pick_vision(paths, n);
    if (*mmproj >= 0)
        chosen[*mmproj] = 1;
    return 0;
}
