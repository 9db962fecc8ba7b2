/* Positions: worked examples of section 7 and check values of 5.2, 5.3 and 6.4 of docs/model.md. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "decoder/sequence.h"
#include "kernels/rotary.h"
#include "vision/position.h"

static const uint64_t KEY_A[2] = {1, 2}, KEY_B[2] = {1, 3};

static void add_text(struct qvl_sequence *s, int n)
{
    for (int i = 0; i < n; i++)
        qvl_sequence_add_text(s, 100 + i);
}

static void expect(const struct qvl_sequence *s, int64_t i, int t, int h, int w)
{
    assert_int_equal(s->pos[i], t);
    assert_int_equal(s->pos[s->cap + i], h);
    assert_int_equal(s->pos[2 * s->cap + i], w);
}

static void one_picture(void **state)
{
    struct qvl_sequence s = {0};
    (void)state;
    assert_int_equal(qvl_sequence_reserve(&s, 200, NULL), 0);
    add_text(&s, 4);
    assert_int_equal(qvl_sequence_add_media(&s, 7, 9, 12, 0, KEY_A, NULL), 0);
    add_text(&s, 10);
    assert_int_equal(s.n, 122);
    expect(&s, 3, 3, 3, 3);
    expect(&s, 4, 4, 4, 4);
    expect(&s, 5, 4, 4, 5);
    expect(&s, 16, 4, 5, 4);
    expect(&s, 111, 4, 12, 15);
    expect(&s, 112, 16, 16, 16);
    expect(&s, 121, 25, 25, 25);
    assert_int_equal(s.next - s.n, -96);
    assert_int_equal(s.next, 26);
    qvl_sequence_free(&s);
}

static void two_pictures(void **state)
{
    struct qvl_sequence s = {0};
    (void)state;
    assert_int_equal(qvl_sequence_reserve(&s, 186, NULL), 0);
    add_text(&s, 4);
    qvl_sequence_add_media(&s, 7, 9, 12, 0, KEY_A, NULL);
    add_text(&s, 2);
    qvl_sequence_add_media(&s, 7, 8, 8, 1, KEY_B, NULL);
    add_text(&s, 8);
    assert_int_equal(s.n, 186);
    expect(&s, 112, 16, 16, 16);
    expect(&s, 114, 18, 18, 18);
    expect(&s, 177, 18, 25, 25);
    expect(&s, 178, 26, 26, 26);
    expect(&s, 185, 33, 33, 33);
    assert_int_equal(s.next - s.n, -152);
    /* growing keeps everything */
    assert_int_equal(qvl_sequence_reserve(&s, 500, NULL), 0);
    expect(&s, 177, 18, 25, 25);
    qvl_sequence_free(&s);
}

static void common_beginning(void **state)
{
    struct qvl_sequence a = {0}, b = {0};
    (void)state;
    assert_int_equal(qvl_sequence_reserve(&a, 50, NULL), 0);
    assert_int_equal(qvl_sequence_reserve(&b, 60, NULL), 0);
    assert_int_equal(qvl_sequence_common(&a, &b), 0);
    add_text(&a, 3);
    add_text(&b, 3);
    qvl_sequence_add_media(&a, 7, 2, 2, 0, KEY_A, NULL);
    qvl_sequence_add_media(&b, 7, 2, 2, 5, KEY_A, NULL); /* same content, other slot */
    assert_int_equal(qvl_sequence_common(&a, &b), 7);
    qvl_sequence_add_media(&a, 7, 2, 2, 1, KEY_A, NULL);
    qvl_sequence_add_media(&b, 7, 2, 2, 6, KEY_B, NULL); /* same pads, another picture */
    assert_int_equal(qvl_sequence_common(&a, &b), 7);
    qvl_sequence_clear(&a);
    qvl_sequence_clear(&b);
    qvl_sequence_add_media(&a, 7, 2, 3, 1, KEY_A, NULL);
    qvl_sequence_add_media(&b, 7, 3, 2, 1, KEY_A, NULL); /* same number of pads, another shape */
    assert_int_equal(qvl_sequence_common(&a, &b), 0);
    qvl_sequence_clear(&a);
    qvl_sequence_clear(&b);
    add_text(&a, 10);
    add_text(&b, 10);
    a.n = 6; /* only part of it is valid */
    assert_int_equal(qvl_sequence_common(&a, &b), 6);
    b.id[2] = 1;
    assert_int_equal(qvl_sequence_common(&a, &b), 2);
    qvl_sequence_free(&a);
    qvl_sequence_free(&b);
}

static void position_table(void **state)
{
    static const int place[6][2] = {{0, 0}, {0, 1}, {1, 0}, {1, 1}, {0, 2}, {0, 3}};
    int64_t index[4];
    float w[4];
    int row, col;
    (void)state;
    for (int i = 0; i < 6; i++) {
        qvl_patch_place(i, 24, 2, &row, &col);
        assert_int_equal(row, place[i][0]);
        assert_int_equal(col, place[i][1]);
    }
    qvl_position_bilinear(1, 1, 18, 24, 48, index, w);
    const int64_t want_index[4] = {98, 99, 146, 147};
    const float want[4] = {0.225064f, 0.010230f, 0.731458f, 0.033248f};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(index[i], want_index[i]);
        assert_true(fabsf(w[i] - want[i]) < 1e-5f);
    }
    qvl_patch_place(431, 24, 2, &row, &col);
    assert_int_equal(row, 17);
    assert_int_equal(col, 23);
    qvl_position_bilinear(row, col, 18, 24, 48, index, w);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(index[i], 2303);
        assert_true(w[i] == (i ? 0.0f : 1.0f));
    }
}

static void frequencies(void **state)
{
    float inv[64], cs[5 * 16], sn[5 * 16];
    (void)state;
    qvl_rotary_frequencies(inv, 32, 10000.0); /* vision head of 64 */
    assert_true(inv[0] == 1.0f && fabsf(inv[1] - 0.562341332f) < 1e-7f && fabsf(inv[2] - 0.316227764f) < 1e-7f);
    assert_true(fabsf(inv[15] - 1.7782794e-4f) < 1e-10f);
    qvl_rotary_frequencies(inv, 36, 10000.0); /* vision head of 72 */
    assert_true(fabsf(inv[1] - 0.599484205f) < 1e-7f && fabsf(inv[17] - 1.66810103e-4f) < 1e-10f);
    qvl_rotary_frequencies(inv, 128, 5e6); /* decoder */
    assert_true(fabsf(inv[1] - 0.785830021f) < 1e-7f && fabsf(inv[2] - 0.617528737f) < 1e-7f);
    assert_true(fabsf(inv[63] - 2.54507967e-7f) < 1e-13f);
    qvl_rotary_table(cs, sn, 5, 32, 10000.0);
    assert_true(cs[0] == 1.0f && sn[0] == 0.0f);
    assert_true(fabs((double)cs[4 * 16 + 1] - cos(4 * 0.5623413251903491)) < 1e-6);
    assert_true(fabs((double)sn[4 * 16 + 1] - sin(4 * 0.5623413251903491)) < 1e-6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_picture),    cmocka_unit_test(two_pictures), cmocka_unit_test(common_beginning),
        cmocka_unit_test(position_table), cmocka_unit_test(frequencies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
