/* sniff.h - names what a file is that was expected to be something else, for error messages. */
#ifndef QVL_FORMATS_SNIFF_H
#define QVL_FORMATS_SNIFF_H

#include <stddef.h>

/* " (it is ...)" with advice, or "" when the bytes look like nothing in particular. Only the beginning is looked at. */
const char *qvl_sniff(const void *data, size_t size);

#endif
