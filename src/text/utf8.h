/* utf8.h - code points out of bytes that may be anything, and back. */
#ifndef QVL_TEXT_UTF8_H
#define QVL_TEXT_UTF8_H

#include <stddef.h>
#include <stdint.h>

#define QVL_UTF8_BAD 0xfffdu /* what stands for bytes that are not UTF-8 */

/* Decodes one code point of s[0..n), n > 0; returns the bytes used. Bytes that are not UTF-8 give QVL_UTF8_BAD for each
 * maximal prefix of a well-formed sequence, or for one byte if there is none (Unicode, section 3.9; Python's "replace"). */
size_t qvl_utf8_next(const unsigned char *s, size_t n, uint32_t *cp);
/* Writes a code point (a valid one) as 1 to 4 bytes. */
size_t qvl_utf8_put(char *out, uint32_t cp);

#endif
