/* help.c - help texts from the option table, 80 columns wide. */
#include <string.h>

#include "option_table.h"

enum { WIDTH = 79, INDENT = 26 };

/* Words of `text` wrapped at WIDTH; the first line continues at column `col`, the others start at `indent`. A line feed
 * begins a paragraph. */
static void wrap(FILE *f, const char *text, int col, int indent)
{
    int first = 1;
    while (*text) {
        int len = (int)strcspn(text, " \n");
        if (!first && col + 1 + len > WIDTH) {
            fprintf(f, "\n%*s", indent, "");
            col = indent;
            first = 1;
        }
        fprintf(f, "%s%.*s", first ? "" : " ", len, text);
        col += len + !first;
        first = 0;
        text += len;
        if (*text == '\n') {
            fprintf(f, "\n\n%*s", indent, "");
            col = indent;
            first = 1;
        }
        text += *text != 0;
    }
    fputc('\n', f);
}

static void option(FILE *f, const struct qvl_opt_row *r)
{
    char left[128], text[1024];
    int n = r->letter ? snprintf(left, sizeof left, "  -%c, --%s", r->letter, r->name)
                      : snprintf(left, sizeof left, "      --%s", r->name);
    if (r->arg && n > 0 && (size_t)n < sizeof left)
        snprintf(left + n, sizeof left - (size_t)n, " %s", r->arg);
    fputs(left, f);
    if (strlen(left) + 2 > INDENT)
        fprintf(f, "\n%*s", INDENT, "");
    else
        fprintf(f, "%*s", INDENT - (int)strlen(left), "");
    int at = snprintf(text, sizeof text, "%s", r->help);
    if (r->choices && at > 0 && (size_t)at < sizeof text)
        at += snprintf(text + at, sizeof text - (size_t)at, " (%s)", r->choices);
    if (r->env && at > 0 && (size_t)at < sizeof text)
        at += snprintf(text + at, sizeof text - (size_t)at, " [%s]", r->env);
    if (r->aliases && at > 0 && (size_t)at < sizeof text) {
        at += snprintf(text + at, sizeof text - (size_t)at, ". Also:");
        for (const char *p = r->aliases; *p && (size_t)at < sizeof text;) {
            int len = (int)strcspn(p, " ");
            at += snprintf(text + at, sizeof text - (size_t)at, " --%.*s", len, p);
            p += len + (p[len] == ' ');
        }
    }
    wrap(f, text, INDENT, INDENT);
}

/* Lines of `text`, each behind `lead`. */
static void lines(FILE *f, const char *lead, const char *next, const char *text)
{
    while (*text) {
        int len = (int)strcspn(text, "\n");
        fprintf(f, "%s%.*s\n", lead, len, text);
        text += len + (text[len] == '\n');
        lead = next;
    }
}

static void group(FILE *f, enum qvl_command c, enum qvl_opt_group g, const char *title)
{
    int any = 0;
    for (size_t i = 0; i < qvl_opt_row_count; i++) {
        const struct qvl_opt_row *r = &qvl_opt_rows[i];
        if (!(r->commands >> c & 1) || r->group != g)
            continue;
        if (!any)
            fprintf(f, "\n%s\n", title);
        any = 1;
        option(f, r);
    }
}

void qvl_help_command(FILE *f, enum qvl_command c)
{
    static const char *const titles[] = {[QVL_GROUP_REQUEST] = "What to do:", [QVL_GROUP_SAMPLING] = "Choosing tokens:",
                                         [QVL_GROUP_MACHINE] = "Model and machine:", [QVL_GROUP_OUTPUT] = "Output:"};
    const struct qvl_command_row *r = &qvl_command_rows[c];
    lines(f, "usage: ", "       ", r->usage);
    fputc('\n', f);
    wrap(f, r->text, 0, 0);
    for (int g = 0; g < QVL_GROUP_COUNT; g++)
        group(f, c, (enum qvl_opt_group)g, titles[g]);
    fputs("\nExamples:\n", f);
    lines(f, "  ", "  ", r->examples);
    fputc('\n', f);
    wrap(f, "Options may stand anywhere, as --name VALUE or --name=VALUE, with _ for -; \"--\" ends them.", 0, 0);
}

void qvl_help_program(FILE *f)
{
    fputs("qvl runs Qwen3-VL vision-language models on ordinary computers: pictures and text in,\ntext out.\n\n", f);
    for (int c = 0; c < QVL_CMD_COUNT; c++)
        lines(f, c ? "       " : "usage: ", "       ", qvl_command_rows[c].usage);
    fputs("\nCommands (qvl help COMMAND tells the options):\n", f);
    for (int c = 0; c < QVL_CMD_COUNT; c++)
        fprintf(f, "  %-10s%s\n", qvl_command_rows[c].name, qvl_command_rows[c].brief);
    fputs("\nExamples:\n"
          "  qvl run MODEL -p \"What is in this picture?\" --image photo.jpg\n"
          "  qvl run MODEL                      a chat\n"
          "  qvl inspect MODEL                  what it is and the memory it needs\n"
          "\nEnvironment (an option beats it):\n"
          "  QVL_MODEL      model that is used when none is named\n"
          "  QVL_THREADS    as --threads          QVL_CPU      as --cpu\n"
          "  QVL_PRECISION  as --precision        QVL_CONTEXT  as --context\n"
          "  NO_COLOR       when set: no colours\n"
          "\nExit status: 0 done, 1 error, 2 usage, 3 not enough memory, 4 model not found or not\n"
          "readable, 130 after Ctrl-C (the first stops the answer, the second the program).\n"
          "\n  -h, --help     this text             --version    version\n",
          f);
}
