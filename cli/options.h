/* options.h - the command line: one table that drives parsing, the help texts and the check of the manual page. */
#ifndef QVL_CLI_OPTIONS_H
#define QVL_CLI_OPTIONS_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* What the program ends with. */
enum { QVL_EXIT_OK = 0, QVL_EXIT_ERROR = 1, QVL_EXIT_USAGE = 2, QVL_EXIT_MEMORY = 3, QVL_EXIT_MODEL = 4, QVL_EXIT_INTERRUPTED = 130 };

/* Commands; an option's row names the ones it belongs to as 1 << command. */
enum qvl_command {
    QVL_CMD_RUN, QVL_CMD_VERIFY, QVL_CMD_TOKENIZE, QVL_CMD_INSPECT, QVL_CMD_BENCH, QVL_CMD_EXPORT, QVL_CMD_PACK, QVL_CMD_PULL, QVL_CMD_COUNT
};

/* Options for which it matters whether they were given at all. */
enum qvl_opt_mark {
    QVL_GIVEN_NOTHING = 0,
    QVL_GIVEN_TEMPERATURE = 1 << 0,
    QVL_GIVEN_TOP_K = 1 << 1,
    QVL_GIVEN_TOP_P = 1 << 2,
    QVL_GIVEN_MIN_P = 1 << 3,
    QVL_GIVEN_REPETITION = 1 << 4,
    QVL_GIVEN_SEED = 1 << 5,
    QVL_GIVEN_PRECISION = 1 << 6
};

/* A list of numbers. given = 1 and n = 0: explicitly none. */
enum { QVL_NUMBERS_MAX = 32 };
struct qvl_numbers {
    uint32_t v[QVL_NUMBERS_MAX];
    size_t n;
    int given;
};

struct qvl_strings {
    const char **v;
    size_t n;
};

/* Values as given; 0, NULL or empty where nothing was. Strings are borrowed from argv and the environment. */
struct qvl_options {
    enum qvl_command command;
    unsigned given; /* enum qvl_opt_mark */
    struct qvl_strings args; /* what is not an option */
    const char *env_model;   /* --model, else QVL_MODEL, else NULL */
    int help;

    const char *prompt, *messages, *system, *trace;
    struct qvl_strings images, stop;
    uint64_t max_tokens, top_k, seed, context, threads, threads_vision, min_pixels, max_pixels;
    double temperature, top_p, min_p, repetition_penalty, presence_penalty, frequency_penalty;
    int greedy, no_draft, add_vision_id, no_memory_check, json, quiet, verbose;
    const char *alpha, *precision, *vision_precision, *mmproj, *model, *text, *vision, *cpu, *image_cache, *kv;
    int no_cache;

    const char *template_file, *tools; /* tokenize */
    int decode, skip_special, plain, no_generation_prompt;

    const char *output; /* export, pack */
    int force;          /* export, pack, pull */
    const char *type, *mmproj_type; /* export */
    int gguf;
    const char *head, *calibrate; /* pack */
    struct qvl_strings lora; /* "DIR" or "DIR:SCALE" */
    const char *revision; /* of a model that is named, not a path */
    struct qvl_strings include, exclude; /* pull */
    uint64_t jobs;

    const char *shape, *format; /* bench */
    uint64_t bench_decode;
    struct qvl_numbers bench_prompts, bench_prompt_depths, bench_depths, bench_images;
};

/* Reads argv behind the command's name and then the environment. Returns 0, or prints one line and returns QVL_EXIT_USAGE.
 * Release with qvl_options_free in both cases. */
int qvl_options_parse(struct qvl_options *o, enum qvl_command command, int argc, char **argv);
void qvl_options_free(struct qvl_options *o);

/* -1 when there is no such command. */
int qvl_command_find(const char *name);
/* For a word that is no command: says so, names the nearest one or that this version lacks it. Returns QVL_EXIT_USAGE. */
int qvl_command_unknown(const char *word);

void qvl_help_program(FILE *f);
void qvl_help_command(FILE *f, enum qvl_command command);

#endif
