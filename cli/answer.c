/* answer.c - see answer.h. */
#include "answer.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "interrupt.h"

/* A seed that differs from run to run; 53 bits, so that every JSON reader gets it whole. */
static uint64_t fresh_seed(void)
{
    uint64_t seed = 0;
    int fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, &seed, sizeof seed) != (ssize_t)sizeof seed) {
        struct timespec t;
        clock_gettime(CLOCK_REALTIME, &t);
        seed = (uint64_t)t.tv_sec * 1000003u ^ (uint64_t)t.tv_nsec << 20 ^ (uint64_t)getpid();
    }
    if (fd >= 0)
        close(fd);
    return seed >> 11;
}

static int on_text(void *ud, const char *text, size_t len)
{
    struct qvl_answer *a = ud;
    if (!a->silent && qvl_ui_out(a->ui, text, len))
        return 1;
    return qvl_interrupt_pending();
}

void qvl_answer_init(struct qvl_answer *a, const struct qvl_options *o, struct qvl_ui *ui, const qvl_model *m)
{
    const unsigned spread = QVL_GIVEN_TEMPERATURE | QVL_GIVEN_TOP_K | QVL_GIVEN_TOP_P | QVL_GIVEN_MIN_P;
    qvl_model_info info = {.struct_size = sizeof info};
    *a = (struct qvl_answer){.ui = ui, .silent = o->json};
    if (qvl_model_get_info(m, &info, NULL) == 0)
        a->thinking = info.thinking;
    qvl_gen_params *g = &a->gen;
    qvl_gen_params_default(g, m);
    g->max_tokens = (uint32_t)o->max_tokens;
    if (o->given & spread)
        g->greedy = 0;
    if (o->given & QVL_GIVEN_TEMPERATURE)
        g->temperature = (float)o->temperature;
    if (o->given & QVL_GIVEN_TOP_K)
        g->top_k = (uint32_t)o->top_k;
    if (o->given & QVL_GIVEN_TOP_P)
        g->top_p = (float)o->top_p;
    if (o->given & QVL_GIVEN_MIN_P)
        g->min_p = (float)o->min_p;
    if (o->given & QVL_GIVEN_REPETITION)
        g->repetition_penalty = (float)o->repetition_penalty;
    if (o->greedy)
        g->greedy = 1;
    g->presence_penalty = (float)o->presence_penalty;
    g->frequency_penalty = (float)o->frequency_penalty;
    g->seed = o->given & QVL_GIVEN_SEED ? o->seed : fresh_seed();
    g->stop = o->stop.v;
    g->n_stop = o->stop.n;
    g->no_draft = o->no_draft;
    g->trace_path = o->trace;
    g->on_text = on_text;
    g->on_text_ud = a;
    g->progress = qvl_ui_progress;
    g->progress_ud = ui;
    a->sampling = !g->greedy && g->temperature > 0;
}

int qvl_answer_generate(struct qvl_answer *a, qvl_session *s, qvl_result *r, qvl_err *err)
{
    *r = (qvl_result){0};
    a->gen.on_text_ud = a;
    qvl_interrupt_watch(s);
    int rc = qvl_session_generate(s, &a->gen, r, err);
    qvl_ui_clear(a->ui);
    return rc;
}

void qvl_answer_figures(char *out, size_t size, const qvl_result *r)
{
    char time[32], peak[32];
    size_t n = 0;
    uint64_t bytes = qvl_peak_memory();
#define ADD(...) \
    do { \
        int k = snprintf(out + n, size - n, __VA_ARGS__); \
        n = k < 0 || (size_t)k >= size - n ? size - 1 : n + (size_t)k; \
    } while (0)
    if (r->n_images)
        ADD("%u image%s %u tokens %s · ", r->n_images, r->n_images == 1 ? "" : "s", r->n_image_tokens,
            qvl_ui_time(time, sizeof time, r->vision_ms));
    ADD("prompt %u token%s", r->n_prompt, r->n_prompt == 1 ? "" : "s");
    if (r->n_prompt_new < r->n_prompt)
        ADD(" (%u cached)", r->n_prompt - r->n_prompt_new);
    ADD(" %s", qvl_ui_time(time, sizeof time, r->prompt_ms));
    ADD(" · %zu token%s", r->n_ids, r->n_ids == 1 ? "" : "s");
    if (r->n_ids > 1 && r->decode_ms > 0) /* the first token comes from the prompt's logits */
        ADD(" %.1f tok/s", (double)(r->n_ids - 1) / r->decode_ms * 1e3);
    if (r->n_accepted)
        ADD(" (%u at once)", r->n_accepted);
    if (bytes)
        ADD(" · peak %s", qvl_ui_bytes(peak, sizeof peak, bytes));
    if (r->finish == QVL_FINISH_LENGTH)
        ADD(" · stopped at the length limit");
    else if (r->finish == QVL_FINISH_CANCELLED)
        ADD(" · cancelled");
#undef ADD
}

json_t *qvl_answer_json(const struct qvl_answer *a, const qvl_result *r, const qvl_model *m, double load_ms)
{
    static const char *const finish[] = {"stop", "length", "cancelled"};
    qvl_model_info info = {.struct_size = sizeof info};
    if (qvl_model_get_info(m, &info, NULL) < 0)
        return NULL;
    json_t *o = json_object(), *usage = json_object(), *timings = json_object();
    json_object_set_new(o, "model", json_string(info.name));
    json_object_set_new(o, "text", json_stringn(r->text, r->text_len));
    json_object_set_new(o, "reasoning", r->reasoning ? json_string(r->reasoning) : json_null());
    json_object_set_new(o, "finish_reason", json_string(finish[r->finish]));
    json_object_set_new(usage, "images", json_integer(r->n_images));
    json_object_set_new(usage, "image_tokens", json_integer(r->n_image_tokens));
    json_object_set_new(usage, "prompt_tokens", json_integer(r->n_prompt));
    json_object_set_new(usage, "cached_tokens", json_integer(r->n_prompt - r->n_prompt_new));
    json_object_set_new(usage, "completion_tokens", json_integer((json_int_t)r->n_ids));
    json_object_set_new(usage, "drafted_tokens", json_integer(r->n_drafted));
    json_object_set_new(usage, "accepted_tokens", json_integer(r->n_accepted));
    json_object_set_new(usage, "total_tokens", json_integer((json_int_t)r->n_prompt + (json_int_t)r->n_ids));
    json_object_set_new(o, "usage", usage);
    json_object_set_new(timings, "load_ms", qvl_json_number(load_ms));
    json_object_set_new(timings, "vision_ms", qvl_json_number(r->vision_ms));
    json_object_set_new(timings, "prompt_ms", qvl_json_number(r->prompt_ms));
    json_object_set_new(timings, "decode_ms", qvl_json_number(r->decode_ms));
    json_object_set_new(timings, "tokens_per_second", r->n_ids > 1 && r->decode_ms > 0
                                                          ? qvl_json_number((double)(r->n_ids - 1) / r->decode_ms * 1e3)
                                                          : json_null());
    json_object_set_new(o, "timings", timings);
    json_object_set_new(o, "peak_bytes", json_integer((json_int_t)qvl_peak_memory()));
    json_object_set_new(o, "precision", json_string(info.precision));
    json_object_set_new(o, "cpu", json_string(info.cpu));
    json_object_set_new(o, "seed", a->sampling ? json_integer((json_int_t)a->gen.seed) : json_null());
    return o;
}

/* Threads of this process: the session's pool and the caller. 0 = cannot be told here. */
static unsigned count_threads(void)
{
    unsigned n = 0;
    DIR *d = opendir("/proc/self/task");
    if (!d)
        return 0;
    for (struct dirent *e; (e = readdir(d));)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

void qvl_answer_tell(const struct qvl_answer *a, const qvl_model *m, const qvl_session *s)
{
    struct qvl_ui *ui = a->ui;
    const qvl_gen_params *g = &a->gen;
    qvl_model_info i = {.struct_size = sizeof i};
    char weights[32], kv[32];
    const char *kv_type;
    uint64_t kv_bytes;
    uint32_t total;
    unsigned threads = count_threads();
    if (!ui->verbose || qvl_model_get_info(m, &i, NULL) < 0)
        return;
    qvl_session_context(s, NULL, &total);
    qvl_session_kv(s, &kv_type, &kv_bytes);
    int small = i.n_params < 1000000000;
    qvl_ui_note(ui, "model %s: %.3g %s parameters, %u layers, vision %u blocks, weights %s", i.name,
                (double)i.n_params / (small ? 1e6 : 1e9), small ? "million" : "billion", i.n_layer, i.v_depth,
                qvl_ui_bytes(weights, sizeof weights, i.weight_bytes + i.copied_bytes));
    qvl_ui_note(ui, "precision %s · cpu level %s · %u thread%s", i.precision, i.cpu, threads, threads == 1 ? "" : "s");
    qvl_ui_note(ui, "context %u of at most %u tokens, KV cache %s, %s a token", total, i.max_context, kv_type,
                qvl_ui_bytes(kv, sizeof kv, kv_bytes));
    if (a->sampling)
        qvl_ui_note(ui, "sampling temperature %g, top-k %u, top-p %g, min-p %g, repetition %g, presence %g, frequency %g, seed %llu",
                    (double)g->temperature, g->top_k, (double)g->top_p, (double)g->min_p, (double)g->repetition_penalty,
                    (double)g->presence_penalty, (double)g->frequency_penalty, (unsigned long long)g->seed);
    else
        qvl_ui_note(ui, "greedy, repetition %g, presence %g, frequency %g", (double)g->repetition_penalty,
                    (double)g->presence_penalty, (double)g->frequency_penalty);
    if (g->max_tokens)
        qvl_ui_note(ui, "at most %u tokens", g->max_tokens);
}
