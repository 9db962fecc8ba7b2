/* sampler.c - logits -> next id.
 *
 *   logits [n_vocab] f32 -> repetition, frequency and presence penalty -> greedy: the first largest
 *                        -> temperature -> top-k -> top-p -> min-p -> softmax -> one draw
 *
 * Scores are float32 as in the reference; sums and the draw are double. exp() is our own, so that a seed gives the same ids
 * with every C library. */
#include "sample/sampler.h"

#include <math.h>
#include <string.h>

#include "base/err.h"

/* ---------------------------------------------------------------- random numbers: xoshiro256**, Blackman and Vigna 2018 */

static uint64_t splitmix64(uint64_t *x)
{
    uint64_t z = (*x += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static uint64_t rotl(uint64_t x, int k)
{
    return (x << k) | (x >> (64 - k));
}

static uint64_t xoshiro256ss(uint64_t s[4])
{
    uint64_t result = rotl(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 45);
    return result;
}

/* Uniform in [0, 1) with 53 bits. */
static double uniform(uint64_t s[4])
{
    return (double)(xoshiro256ss(s) >> 11) * 0x1p-53;
}

/* e^x for x <= 0, by additions and multiplications only: x = k ln2 + r, |r| <= ln2/2, e^r by its series to r^13
 * (remainder below 1e-17). Results below 2^-1000 count as 0. */
static double exp_neg(double x)
{
    static const double inv[14] = {
        1,          1,           1.0 / 2,      1.0 / 6,       1.0 / 24,       1.0 / 120,       1.0 / 720,
        1.0 / 5040, 1.0 / 40320, 1.0 / 362880, 1.0 / 3628800, 1.0 / 39916800, 1.0 / 479001600, 1.0 / 6227020800};
    if (!(x > -690))
        return 0;
    int k = (int)(x * 1.4426950408889634 - 0.5); /* x <= 0: truncation rounds to nearest */
    double r = x - k * 0x1.62e42fee00000p-1 - k * 0x1.a39ef35793c76p-33, sum = inv[13];
    for (int i = 12; i >= 0; i--)
        sum = sum * r + inv[i];
    uint64_t bits = (uint64_t)(1023 + k) << 52;
    double scale;
    memcpy(&scale, &bits, sizeof scale);
    return sum * scale;
}

/* ---------------------------------------------------------------- begin */

void qvl_sampler_take(struct qvl_sampler *s, struct qvl_arena *a, int n_vocab)
{
    size_t n = n_vocab > 0 ? (size_t)n_vocab : 0;
    *s = (struct qvl_sampler){.n_vocab = n_vocab};
    s->count = qvl_arena_take(a, n, sizeof *s->count);
    s->seen = qvl_arena_take(a, n, sizeof *s->seen);
    s->score = qvl_arena_take(a, n, sizeof *s->score);
    s->order = qvl_arena_take(a, n, sizeof *s->order);
}

static int check_params(const struct qvl_sampler_params *p, qvl_err *err)
{
    if (!isfinite(p->repetition_penalty) || p->repetition_penalty <= 0)
        return qvl_fail(err, QVL_E_ARG, "repetition_penalty: %g, must be above 0", (double)p->repetition_penalty);
    if (!isfinite(p->presence_penalty))
        return qvl_fail(err, QVL_E_ARG, "presence_penalty: %g, must be finite", (double)p->presence_penalty);
    if (!isfinite(p->frequency_penalty))
        return qvl_fail(err, QVL_E_ARG, "frequency_penalty: %g, must be finite", (double)p->frequency_penalty);
    if (!isfinite(p->temperature))
        return qvl_fail(err, QVL_E_ARG, "temperature: %g, must be finite", (double)p->temperature);
    if (p->greedy || p->temperature <= 0)
        return 0; /* the others are unused */
    if (p->top_k < 0)
        return qvl_fail(err, QVL_E_ARG, "top_k: %d, must not be negative (0 = off)", p->top_k);
    if (!(p->top_p >= 0 && p->top_p <= 1))
        return qvl_fail(err, QVL_E_ARG, "top_p: %g, must be between 0 and 1 (1 = off)", (double)p->top_p);
    if (!(p->min_p >= 0 && p->min_p <= 1))
        return qvl_fail(err, QVL_E_ARG, "min_p: %g, must be between 0 and 1 (0 = off)", (double)p->min_p);
    return 0;
}

int qvl_sampler_begin(struct qvl_sampler *s, const struct qvl_sampler_params *p, const uint8_t *banned,
                      const int32_t *prompt, size_t n_prompt, qvl_err *err)
{
    if (!s->score || s->n_vocab <= 0)
        return qvl_fail(err, QVL_E_STATE, "sampler: has no memory");
    QVL_TRY(check_params(p, err));
    memset(s->count, 0, (size_t)s->n_vocab * sizeof *s->count);
    memset(s->seen, 0, (size_t)s->n_vocab);
    for (size_t i = 0; i < n_prompt; i++) {
        if (prompt[i] < 0 || prompt[i] >= s->n_vocab)
            return qvl_fail(err, QVL_E_ARG, "sampler: prompt id %d is outside 0..%d", (int)prompt[i], s->n_vocab - 1);
        s->seen[prompt[i]] = 1;
    }
    s->p = *p;
    s->banned = banned;
    uint64_t x = p->seed;
    for (int i = 0; i < 4; i++)
        s->rng[i] = splitmix64(&x);
    return 0;
}

/* ---------------------------------------------------------------- processors */

/* Penalties, which greedy picks know as well. NaN and banned ids are ruled out. */
static void penalise(struct qvl_sampler *s, const float *logits)
{
    float r = s->p.repetition_penalty;
    for (int i = 0; i < s->n_vocab; i++) {
        float x = logits[i];
        if (isnan(x) || (s->banned && s->banned[i])) {
            s->score[i] = -INFINITY;
            continue;
        }
        if (s->seen[i] && r != 1)
            x = x < 0 ? x * r : x / r;
        if (s->count[i])
            x = x - s->p.frequency_penalty * (float)s->count[i] - s->p.presence_penalty;
        s->score[i] = x;
    }
}

/* Keeps the ids in order[0..n) whose score is at least `least`; returns how many. Order is preserved. */
static size_t keep_at_least(struct qvl_sampler *s, size_t n, float least)
{
    size_t m = 0;
    for (size_t i = 0; i < n; i++) {
        int32_t id = s->order[i];
        if (s->score[id] >= least)
            s->order[m++] = id;
        else
            s->score[id] = -INFINITY;
    }
    return m;
}

/* a stands before b in ascending order: by score, then by id, as a stable sort of the vocabulary leaves them. */
static int below(const struct qvl_sampler *s, int32_t a, int32_t b)
{
    return s->score[a] < s->score[b] || (s->score[a] == s->score[b] && a < b);
}

/* Restores a heap of n ids from position i downwards; largest = 1 has the largest on top, 0 the smallest. */
static void sift(const struct qvl_sampler *s, int32_t *h, size_t n, size_t i, int largest)
{
    int32_t x = h[i];
    for (size_t c; (c = 2 * i + 1) < n; i = c) {
        if (c + 1 < n && (largest ? below(s, h[c], h[c + 1]) : below(s, h[c + 1], h[c])))
            c++;
        if (!(largest ? below(s, x, h[c]) : below(s, h[c], x)))
            break;
        h[i] = h[c];
    }
    h[i] = x;
}

static void heapify(const struct qvl_sampler *s, int32_t *h, size_t n, int largest)
{
    for (size_t i = n / 2; i-- > 0;)
        sift(s, h, n, i, largest);
}

/* Every id that is possible, ascending. */
static size_t list_all(struct qvl_sampler *s)
{
    size_t m = 0;
    for (int32_t i = 0; i < s->n_vocab; i++)
        if (s->score[i] > -INFINITY)
            s->order[m++] = i;
    return m;
}

/* top-k: the k largest and all that equal the smallest of them. A heap of k holds the largest so far, so the pass over the
 * vocabulary is mostly one comparison per id. */
static size_t top_k(struct qvl_sampler *s, size_t n)
{
    size_t k = (size_t)s->p.top_k;
    if (k == 0 || k >= n)
        return n;
    heapify(s, s->order, k, 0);
    for (size_t i = k; i < n; i++) {
        if (!(s->score[s->order[i]] > s->score[s->order[0]]))
            continue;
        s->order[0] = s->order[i];
        sift(s, s->order, k, 0, 0);
    }
    float least = s->score[s->order[0]];
    return keep_at_least(s, list_all(s), least);
}

static float largest_score(const struct qvl_sampler *s, size_t n)
{
    float top = -INFINITY;
    for (size_t i = 0; i < n; i++)
        if (s->score[s->order[i]] > top)
            top = s->score[s->order[i]];
    return top;
}

/* Unnormalised probability. With an infinite score on top the infinite ones share everything. */
static double weight(float score, float top)
{
    return score == top ? 1 : isinf(top) ? 0 : exp_neg((double)score - (double)top);
}

static double weight_sum(const struct qvl_sampler *s, size_t n, float top)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += weight(s->score[s->order[i]], top);
    return sum;
}

/* The decimal number that a float was written as: 0.8f -> 0.8. The reference computes 1 - p in double from that. */
static double as_written(float p)
{
    double d = nearbyint((double)p * 1e7) / 1e7;
    return (float)d == p ? d : (double)p;
}

/* top-p: in ascending order, ids whose cumulative probability (theirs included) is at most 1 - p fall; the last one always
 * stays. Taken from the other end: ids come off a heap, largest first, until what is left is at most 1 - p. */
static size_t top_p(struct qvl_sampler *s, size_t n)
{
    if (!(s->p.top_p < 1) || n < 2)
        return n;
    float top = largest_score(s, n), rest = (float)(1 - as_written(s->p.top_p));
    double sum = weight_sum(s, n, top), left = 1;
    size_t m = n;
    heapify(s, s->order, n, 1);
    /* order[0..m) is the heap, order[m..n) what stays */
    while (m > 0 && (m == n || (float)left > rest)) {
        int32_t id = s->order[0];
        left -= (double)(float)(weight(s->score[id], top) / sum);
        s->order[0] = s->order[--m];
        s->order[m] = id;
        if (m)
            sift(s, s->order, m, 0, 1);
    }
    for (size_t i = 0; i < m; i++)
        s->score[s->order[i]] = -INFINITY;
    return list_all(s);
}

/* min-p: ids less probable than min_p times the most probable one fall. */
static size_t min_p(struct qvl_sampler *s, size_t n)
{
    if (!(s->p.min_p > 0) || n < 2)
        return n;
    float top = largest_score(s, n);
    double sum = weight_sum(s, n, top);
    float least = s->p.min_p * (float)(1 / sum);
    size_t m = 0;
    for (size_t i = 0; i < n; i++) {
        int32_t id = s->order[i];
        if ((float)(weight(s->score[id], top) / sum) < least)
            s->score[id] = -INFINITY;
        else
            s->order[m++] = id;
    }
    return m;
}

static int is_greedy(const struct qvl_sampler *s)
{
    return s->p.greedy || s->p.temperature <= 0;
}

size_t qvl_sampler_filter(struct qvl_sampler *s, const float *logits)
{
    penalise(s, logits);
    if (is_greedy(s)) {
        int32_t best = 0;
        for (int32_t i = 1; i < s->n_vocab; i++)
            if (s->score[i] > s->score[best])
                best = i;
        s->order[0] = best;
        return s->score[best] > -INFINITY;
    }
    if (s->p.temperature != 1)
        for (int i = 0; i < s->n_vocab; i++)
            s->score[i] = s->score[i] / s->p.temperature;
    return min_p(s, top_p(s, top_k(s, list_all(s))));
}

/* One draw: the first id at which the running sum passes u times the total. */
static int32_t draw(struct qvl_sampler *s, size_t n)
{
    float top = largest_score(s, n);
    double u = uniform(s->rng) * weight_sum(s, n, top), sum = 0;
    int32_t id = -1;
    for (size_t i = 0; i < n; i++) {
        double w = weight(s->score[s->order[i]], top);
        if (!(w > 0))
            continue;
        sum += w;
        id = s->order[i]; /* rounding may keep sum below u: then the last possible id */
        if (sum > u)
            break;
    }
    return id;
}

int qvl_sampler_pick(struct qvl_sampler *s, const float *logits, int32_t *id, qvl_err *err)
{
    size_t n = qvl_sampler_filter(s, logits);
    if (n == 0)
        return qvl_fail(err, QVL_E_STATE, "sampler: no token is possible: every logit is NaN, -infinity or banned");
    *id = is_greedy(s) ? s->order[0] : draw(s, n);
    if (s->count[*id] < UINT32_MAX)
        s->count[*id]++;
    s->seen[*id] = 1;
    return 0;
}
