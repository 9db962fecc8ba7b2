/* option_table.h - the rows behind options.h. */
#ifndef QVL_CLI_OPTION_TABLE_H
#define QVL_CLI_OPTION_TABLE_H

#include "options.h"

enum qvl_opt_kind {
    QVL_OPT_FLAG,   /* int = 1 */
    QVL_OPT_TEXT,   /* const char * */
    QVL_OPT_CHOICE, /* const char *, one of `choices` */
    QVL_OPT_LIST,   /* struct qvl_strings, may be repeated */
    QVL_OPT_COUNT,  /* uint64_t; 8k is 8192 */
    QVL_OPT_REAL,   /* double */
    QVL_OPT_PIXELS, /* uint64_t; 2M, 512k, 1024x768 */
    QVL_OPT_COUNTS, /* struct qvl_numbers; 128,1k, or "none" */
    QVL_OPT_SIZES   /* struct qvl_numbers, width and height pairs; 400x300,1024x768, or "none" */
};

enum qvl_opt_group { QVL_GROUP_REQUEST, QVL_GROUP_SAMPLING, QVL_GROUP_MACHINE, QVL_GROUP_OUTPUT, QVL_GROUP_COUNT };

struct qvl_opt_row {
    const char *name;
    const char *aliases; /* further long names, separated by blanks, or NULL */
    char letter;         /* short name or 0 */
    enum qvl_opt_kind kind;
    unsigned commands;
    size_t offset;       /* of the value in struct qvl_options */
    const char *arg;     /* name of the value in the help, NULL for flags */
    double min, max;     /* COUNT and REAL */
    const char *choices; /* "a|b|c" */
    const char *env;     /* variable that is read when the option is absent */
    unsigned mark;       /* bit set in `given` */
    enum qvl_opt_group group;
    const char *help;
};

extern const struct qvl_opt_row qvl_opt_rows[];
extern const size_t qvl_opt_row_count;

struct qvl_command_row {
    const char *name, *usage, *brief;
    const char *text;     /* paragraphs above the options */
    const char *examples; /* below */
    size_t min_args, max_args;
};
extern const struct qvl_command_row qvl_command_rows[QVL_CMD_COUNT];

/* Names that other versions have: they get a plain answer instead of "unknown". Blank-separated. */
extern const char qvl_later_options[], qvl_later_commands[];

#endif
