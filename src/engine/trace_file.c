/* trace_file.c - a trace in memory -> a safetensors file with the request in its metadata (docs/traces.md). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "engine/internal.h"

/* The conversation with pictures as absolute paths, so that the trace can be verified from anywhere: the list of messages, or
 * an object around it when the prompt depends on more. */
static int messages_json(const struct qvl_session *s, char **out, qvl_err *err)
{
    char *text = NULL;
    json_t *list = NULL, *root = NULL, *message, *part;
    size_t i, j;
    struct qvl_buf b;
    int rc = qvl_session_messages(s, &text, err);
    if (rc == 0)
        rc = qvl_json_parse(&list, text, strlen(text), "messages", err);
    qvl_mem_free(text);
    if (rc < 0)
        return rc;
    json_array_foreach(list, i, message)
        json_array_foreach(json_object_get(message, "content"), j, part) {
            const char *path = json_string_value(json_object_get(part, "image"));
            char *full = path ? realpath(path, NULL) : NULL;
            if ((path && !full && errno == ENOMEM) || (full && json_object_set_new(part, "image", json_string(full)) != 0))
                rc = qvl_fail_nomem(err, strlen(path), "messages");
            free(full);
        }
    if (rc == 0 && (s->chat.tools || s->p.add_vision_id)) {
        root = json_pack("{s:O, s:b, s:O*}", "messages", list, "add_vision_id", s->p.add_vision_id, "tools", s->chat.tools);
        if (!root)
            rc = qvl_fail_nomem(err, 0, "messages");
    }
    qvl_buf_init(&b, SIZE_MAX / 4);
    qvl_json_dump_python(&b, root ? root : list);
    json_decref(root);
    json_decref(list);
    if (rc < 0) {
        qvl_buf_free(&b);
        return rc;
    }
    *out = qvl_buf_take(&b, NULL);
    return *out ? 0 : qvl_fail_nomem(err, 0, "messages");
}

static struct qvl_tensor view(const struct qvl_trace_entry *e)
{
    struct qvl_tensor t = {.name = e->name, .data = e->data, .type = e->type, .type_name = qvl_dtype_name(e->type), .rank = e->rank,
                           .shape = {e->rows, e->cols}};
    t.bytes = (size_t)e->rows * (size_t)(e->cols ? e->cols : 1) * qvl_dtype_bits(e->type) / 8;
    return t;
}

/* The format knows greedy continuations only; others would read as differences. */
static int is_greedy(const struct qvl_gen_params *p)
{
    return (p->greedy || p->temperature <= 0) && p->repetition_penalty == 1 && p->presence_penalty == 0 && p->frequency_penalty == 0;
}

int qvl_trace_write(const struct qvl_session *s, const struct qvl_gen_params *p, const struct qvl_trace *t, const char *path,
                    qvl_err *err)
{
    char reference[64], dtype[12], max_new[16], min_px[24], max_px[24], *messages = NULL;
    struct qvl_tensor *tensors = NULL;
    size_t n = 0;
    if (t->failed)
        return qvl_fail_nomem(err, 0, "the trace");
    int rc = messages_json(s, &messages, err);
    if (rc < 0)
        return rc;
    snprintf(reference, sizeof reference, "qvl %s", qvl_version());
    snprintf(dtype, sizeof dtype, "%s", s->model->arith_text == QVL_ARITH_F32 ? "float32" : "bfloat16");
    snprintf(max_new, sizeof max_new, "%zu", is_greedy(p) ? s->ids.n : 0);
    snprintf(min_px, sizeof min_px, "%llu", (unsigned long long)s->p.min_pixels);
    snprintf(max_px, sizeof max_px, "%llu", (unsigned long long)s->p.max_pixels);
    const struct qvl_tensor_meta meta[] = {
        {"qvl.trace", "1"}, {"reference", reference}, {"dtype", dtype}, {"messages", messages}, {"max_new_tokens", max_new},
        {"min_pixels", min_px}, {"max_pixels", max_px}, {"alpha", s->p.alpha == QVL_ALPHA_DROP ? "drop" : "white"},
        {"add_generation_prompt", p->no_generation_prompt ? "false" : "true"}};
    tensors = qvl_calloc(t->n, sizeof *tensors);
    if (!tensors)
        rc = qvl_fail_nomem(err, t->n * sizeof *tensors, "the trace");
    for (size_t i = 0; rc == 0 && i < t->n; i++)
        if (is_greedy(p) || strncmp(t->entry[i].name, "generated_", 10) != 0)
            tensors[n++] = view(&t->entry[i]);
    if (rc == 0)
        rc = qvl_safetensors_write(path, tensors, n, meta, QVL_COUNT(meta), err);
    qvl_mem_free(tensors);
    qvl_mem_free(messages);
    return rc;
}
