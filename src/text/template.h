/* template.h - a template as it is kept in memory: which of the two published ones it is. */
#ifndef QVL_TEXT_TEMPLATE_H
#define QVL_TEXT_TEMPLATE_H

struct qvl_template {
    int thinking; /* answers begin inside a <think> block */
};

#endif
