/* The option table against what is written for people: every row is in the help of its commands and in the manual page. */
#include "option_table.h"
#include "spawn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The manual page as plain text: roff writes "-" as "\-". */
static char *manual(void)
{
    char *text = read_whole(QVL_SOURCE_DIR "/docs/qvl.1", NULL), *to = text;
    for (char *p = text; *p; p++)
        if (!(*p == '\\' && p[1] == '-'))
            *to++ = *p;
    *to = 0;
    return text;
}

/* Does a word of the text equal --name? */
static int mentions(const char *text, const char *name)
{
    char word[80];
    snprintf(word, sizeof word, "--%s", name);
    for (const char *p = text; (p = strstr(p, word)); p++) {
        char next = p[strlen(word)];
        if (!(next == '-' || next == '_' || (next >= 'a' && next <= 'z')))
            return 1;
    }
    return 0;
}

static void expect_mention(const char *text, const char *name, const char *where)
{
    if (!mentions(text, name))
        fail_msg("--%s is missing in %s", name, where);
}

static void options_are_written_down(void **state)
{
    char *man = manual();
    (void)state;
    for (int c = 0; c < QVL_CMD_COUNT; c++) {
        struct run r = RUN(NULL, "help", qvl_command_rows[c].name);
        expect_status(&r, 0);
        expect_contains(man, qvl_command_rows[c].name);
        for (size_t i = 0; i < qvl_opt_row_count; i++) {
            const struct qvl_opt_row *o = &qvl_opt_rows[i];
            if (!(o->commands >> c & 1))
                continue;
            expect_mention(r.out, o->name, qvl_command_rows[c].name);
            expect_mention(man, o->name, "docs/qvl.1");
            if (o->env)
                expect_contains(man, o->env);
            for (const char *a = o->aliases; a && *a;) {
                char alias[64];
                int len = (int)strcspn(a, " ");
                snprintf(alias, sizeof alias, "%.*s", len, a);
                expect_mention(r.out, alias, qvl_command_rows[c].name);
                expect_mention(man, alias, "docs/qvl.1");
                a += len + (a[len] == ' ');
            }
        }
        run_free(&r);
    }
    free(man);
}

/* The manual page names no option that does not exist. */
static void manual_invents_nothing(void **state)
{
    char *man = manual();
    (void)state;
    for (const char *p = man; (p = strstr(p, "--")); p += 2) {
        size_t n = strspn(p + 2, "abcdefghijklmnopqrstuvwxyz-");
        int known = n == 0 || (n == 7 && strncmp(p + 2, "version", 7) == 0) || (n == 4 && strncmp(p + 2, "name", 4) == 0);
        for (size_t i = 0; i < qvl_opt_row_count && !known; i++) {
            const char *a = qvl_opt_rows[i].aliases;
            known = strlen(qvl_opt_rows[i].name) == n && strncmp(qvl_opt_rows[i].name, p + 2, n) == 0;
            for (; a && *a && !known; a += strcspn(a, " ") + (a[strcspn(a, " ")] == ' '))
                known = strcspn(a, " ") == n && strncmp(a, p + 2, n) == 0;
        }
        if (!known)
            fail_msg("docs/qvl.1 names --%.*s, which no command has", (int)n, p + 2);
    }
    free(man);
}

static void names_are_unique(void **state)
{
    (void)state;
    for (size_t i = 0; i < qvl_opt_row_count; i++)
        for (size_t k = 0; k < i; k++) {
            const struct qvl_opt_row *a = &qvl_opt_rows[i], *b = &qvl_opt_rows[k];
            if (!(a->commands & b->commands))
                continue;
            assert_string_not_equal(a->name, b->name);
            assert_true(!a->letter || a->letter != b->letter);
        }
    assert_true(qvl_opt_row_count <= 256); /* options.c notes in that many bytes which were seen */
}

static void help_fits_a_terminal(void **state)
{
    (void)state;
    for (int c = 0; c < QVL_CMD_COUNT; c++) {
        struct run r = RUN(NULL, "help", qvl_command_rows[c].name);
        for (char *line = strtok(r.out, "\n"); line; line = strtok(NULL, "\n"))
            if (strlen(line) > 80)
                fail_msg("qvl help %s: %zu columns: %s", qvl_command_rows[c].name, strlen(line), line);
        run_free(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(options_are_written_down), cmocka_unit_test(manual_invents_nothing),
                                       cmocka_unit_test(names_are_unique), cmocka_unit_test(help_fits_a_terminal)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
