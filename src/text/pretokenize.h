/* pretokenize.h - cuts text into the words inside which byte pairs are merged. */
#ifndef QVL_TEXT_PRETOKENIZE_H
#define QVL_TEXT_PRETOKENIZE_H

#include <stddef.h>
#include <stdint.h>

/* The expression that qvl_pretokenize_next implements, as tokenizer.json writes it. */
#define QVL_PRETOKENIZE_REGEX                                                                                         \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|" \
    "\\s+(?!\\S)|\\s+"

/* End of the word that starts at position i < n of the (tagged) code points. */
size_t qvl_pretokenize_next(const uint32_t *cp, size_t n, size_t i);

#endif
