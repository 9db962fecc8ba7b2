/* The bytes of an answer do not depend on the number of threads: whole traces are compared. Runs under ThreadSanitizer too. */
#include "unit/session_help.h"

#include <unistd.h>

static char *read_whole(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    *n = (size_t)ftell(f);
    rewind(f);
    char *data = malloc(*n);
    assert_non_null(data);
    assert_int_equal(fread(data, 1, *n, f), *n);
    fclose(f);
    return data;
}

static char *trace_with(qvl_model *m, unsigned threads, size_t *n)
{
    char path[] = "/tmp/qvl-threads-XXXXXX";
    qvl_err err = {0};
    qvl_gen_params g;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    qvl_session *s = open_session(m, threads, 24); /* several chunks, the last one odd */
    assert_int_equal(ask(s, PICTURE, "Describe this image.", &err), 0);
    qvl_gen_params_default(&g, NULL);
    g.greedy = 0;
    g.temperature = 1.5f;
    g.seed = 11;
    g.max_tokens = 12;
    g.trace_path = path;
    if (qvl_session_generate(s, &g, NULL, &err) < 0)
        fail_msg("%s", err.msg);
    qvl_session_close(&s);
    char *data = read_whole(path, n);
    unlink(path);
    return data;
}

static void same_bytes(qvl_precision precision)
{
    qvl_model *m = open_tiny(precision);
    size_t n1, n;
    char *one = trace_with(m, 1, &n1);
    assert_true(n1 > 100000);
    for (unsigned threads = 2; threads <= 3; threads++) {
        char *more = trace_with(m, threads, &n);
        assert_int_equal(n, n1);
        assert_memory_equal(more, one, n);
        free(more);
    }
    free(one);
    qvl_model_close(&m);
}

static void same_bytes_f32(void **state)
{
    (void)state;
    same_bytes(QVL_PRECISION_F32);
}

static void same_bytes_bf16(void **state)
{
    (void)state;
    same_bytes(QVL_PRECISION_BF16);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(same_bytes_f32), cmocka_unit_test(same_bytes_bf16)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
