/* template.h - a template as it is kept in memory: which of the two published ones it is. */
#ifndef QVL_TEXT_TEMPLATE_H
#define QVL_TEXT_TEMPLATE_H

#include <stddef.h>

struct qvl_template {
    char *source;   /* the template's own text, or NULL: the folder has none */
    size_t source_len;
    int thinking;   /* answers begin inside a <think> block */
    int by_content; /* the line end in front of the first tool call asks for content, not for text: a list of parts that
                       render to nothing counts */
};

#endif
