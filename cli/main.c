/* main.c - qvl: finds the command, reads its options, runs it. */
#include <langinfo.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>

#include "command.h"
#include "interrupt.h"

static int print_and_check(struct qvl_ui *ui, int command)
{
    if (command < 0)
        qvl_help_program(stdout);
    else
        qvl_help_command(stdout, (enum qvl_command)command);
    return qvl_ui_close_out(ui, QVL_EXIT_OK);
}

static int run_command(enum qvl_command command, int argc, char **argv)
{
    static int (*const run[QVL_CMD_COUNT])(const struct qvl_options *, struct qvl_ui *) = {
        [QVL_CMD_RUN] = qvl_cmd_run,         [QVL_CMD_VERIFY] = qvl_cmd_verify, [QVL_CMD_TOKENIZE] = qvl_cmd_tokenize,
        [QVL_CMD_INSPECT] = qvl_cmd_inspect, [QVL_CMD_BENCH] = qvl_cmd_bench,
        [QVL_CMD_EXPORT] = qvl_cmd_export,
        [QVL_CMD_PACK] = qvl_cmd_pack,
        [QVL_CMD_PULL] = qvl_cmd_pull,
    };
    struct qvl_options o;
    struct qvl_ui ui;
    int status = qvl_options_parse(&o, command, argc, argv);
    qvl_ui_init(&ui, o.quiet, o.verbose && !o.quiet);
    if (status == 0)
        status = o.help ? print_and_check(&ui, (int)command) : run[command](&o, &ui);
    qvl_options_free(&o);
    return status;
}

static int is_one_of(const char *s, const char *a, const char *b, const char *c)
{
    return strcmp(s, a) == 0 || strcmp(s, b) == 0 || strcmp(s, c) == 0;
}

int main(int argc, char **argv)
{
    struct qvl_ui ui;
    if (!setlocale(LC_CTYPE, "") || strcmp(nl_langinfo(CODESET), "UTF-8") != 0)
        setlocale(LC_CTYPE, "C.UTF-8"); /* all text is UTF-8, also where the environment does not say so */
    qvl_interrupt_install();
    qvl_ui_init(&ui, 0, 0);
    if (argc < 2) {
        qvl_help_program(stderr);
        return QVL_EXIT_USAGE;
    }
    const char *word = argv[1];
    if (is_one_of(word, "--version", "-V", "version")) {
        printf("qvl %s\n", qvl_version());
        return qvl_ui_close_out(&ui, QVL_EXIT_OK);
    }
    if (is_one_of(word, "--help", "-h", "help")) {
        int command = argc > 2 && argv[2][0] != '-' ? qvl_command_find(argv[2]) : -1;
        if (argc > 2 && argv[2][0] != '-' && command < 0)
            return qvl_command_unknown(argv[2]);
        return print_and_check(&ui, command);
    }
    int command = qvl_command_find(word);
    if (command < 0)
        return qvl_command_unknown(word);
    return run_command((enum qvl_command)command, argc - 2, argv + 2);
}
