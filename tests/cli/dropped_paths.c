/* Words of a line that are pictures, written as terminals paste them. */
#include "dropped.h"
#include "spawn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *dir;

static void touch(const char *name, const char *content)
{
    char path[600];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    write_text(path, content);
}

static int setup(void **state)
{
    char path[600];
    (void)state;
    dir = scratch();
    touch("a.png", "x");
    touch("my cat.JPG", "x");
    touch("it's.webp", "x");
    touch("notes.txt", "text");
    touch("magic", "\xff\xd8\xff\xe0");
    touch("caf\xc3\xa9.png", "x");
    snprintf(path, sizeof path, "%s/folder.png", dir);
    mkdir(path, 0700);
    return chdir(dir);
}

/* The pieces as one text: pictures in <>, without the folder's name. */
static void check(const char *line, const char *expected)
{
    struct qvl_pieces p;
    char got[2048] = "", in[2048] = "";
    for (const char *s = line; *s; s++) { /* %D is the folder */
        size_t n = strlen(in);
        if (s[0] == '%' && s[1] == 'D') {
            snprintf(in + n, sizeof in - n, "%s", dir);
            s++;
        } else {
            in[n] = *s;
            in[n + 1] = 0;
        }
    }
    assert_int_equal(qvl_pieces_split(&p, in), 0);
    for (size_t i = 0; i < p.n; i++) {
        size_t n = strlen(got), skip = strlen(dir) + 1;
        if (p.v[i].is_picture)
            assert_int_equal(strncmp(p.v[i].text, dir, skip - 1), 0);
        snprintf(got + n, sizeof got - n, p.v[i].is_picture ? "<%s>" : "[%s]", p.v[i].text + (p.v[i].is_picture ? skip : 0));
    }
    qvl_pieces_free(&p);
    if (strcmp(got, expected) != 0)
        fail_msg("%s -> %s, expected %s", in, got, expected);
}

static void forms(void **state)
{
    (void)state;
    check("a.png what is this?", "<a.png>[what is this?]");
    check("'%D/my cat.JPG' what is this?", "<my cat.JPG>[what is this?]");
    check("\"%D/my cat.JPG\" what", "<my cat.JPG>[what]");
    check("%D/my\\ cat.JPG what", "<my cat.JPG>[what]");
    check("file://%D/my%20cat.JPG what", "<my cat.JPG>[what]");
    check("file://localhost%D/caf%C3%A9.png what", "<caf\xc3\xa9.png>[what]");
    check("%D/my cat.JPG ", "<my cat.JPG>");
    check("it\\'s.webp", "<it's.webp>");
    check("'it'\\''s.webp'", "<it's.webp>");
    check("it's.webp", "<it's.webp>");
    check("magic", "<magic>");
    check("./a.png", "<./a.png>");
}

static void places(void **state)
{
    (void)state;
    check("what is this? a.png", "<a.png>[what is this?]");
    check("what is in a.png?", "[what is in]<a.png>[?]");
    check("compare a.png with 'my cat.JPG' please", "[compare]<a.png>[with]<my cat.JPG>[please]");
    check("compare a.png magic", "<a.png><magic>[compare]");
    check("a.png magic", "<a.png><magic>");
    check("compare a.png with magic", "<magic>[compare]<a.png>[with]");
}

static void text_stays(void **state)
{
    (void)state;
    check("what's in the notes.txt, isn't it?", "[what's in the notes.txt, isn't it?]");
    check("nothere.png", "[nothere.png]");
    check("folder.png", "[folder.png]");
    check("", "");
    check("   ", "");
    check("a  b\\ c 'd' \"e", "[a  b\\ c 'd' \"e]");
    check("file://", "[file://]");
    check("\\", "[\\]");
}

static void typed(void **state)
{
    static const char *const forms_of_one[] = {"my cat.JPG", "'my cat.JPG'", "\"my cat.JPG\"", "my\\ cat.JPG", "  my cat.JPG  "};
    char expected[600], home[600];
    (void)state;
    snprintf(expected, sizeof expected, "%s/my cat.JPG", dir);
    for (size_t i = 0; i < sizeof forms_of_one / sizeof *forms_of_one; i++) {
        char *path = qvl_typed_path(forms_of_one[i]);
        assert_string_equal(path, expected);
        free(path);
    }
    setenv("HOME", "/home/someone", 1);
    char *path = qvl_typed_path("~/x.json");
    assert_string_equal(path, "/home/someone/x.json");
    free(path);
    snprintf(home, sizeof home, "%s/it's.webp", dir);
    path = qvl_typed_path("it's.webp");
    assert_string_equal(path, home);
    free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(forms), cmocka_unit_test(places), cmocka_unit_test(text_stays),
                                       cmocka_unit_test(typed)};
    return cmocka_run_group_tests(tests, setup, NULL);
}
