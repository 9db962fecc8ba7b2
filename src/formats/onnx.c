/* onnx.c - opening ONNX models, and looking things up in them. The reading is in onnx_parse.c and onnx_tensor.c. */
#include "formats/onnx.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "formats/onnx_file.h"
#include "formats/sniff.h"

static int by_output(const void *a, const void *b)
{
    const struct qvl_onnx_output *x = a, *y = b;
    return strcmp(x->name, y->name);
}

/* Everything but the bytes of files[0] is still to be done. */
static int read_model(struct qvl_onnx *o, qvl_err *err)
{
    const struct qvl_tensor_file *f = &o->tensors->files[0];
    if (f->size > QVL_ONNX_MAX_BYTES)
        return qvl_fail(err, QVL_E_LIMIT, "%s: %zu bytes: an ONNX model has at most 2 GiB", f->path, f->size);
    int rc = qvl_onnx_parse(o, err);
    if (rc == QVL_E_FORMAT && *qvl_sniff(o->tensors->files[0].data, o->tensors->files[0].size))
        return qvl_fail(err, rc, "%s: not an ONNX model%s", o->tensors->files[0].path,
                        qvl_sniff(o->tensors->files[0].data, o->tensors->files[0].size));
    QVL_TRY(rc);
    QVL_TRY(qvl_tensors_index(o->tensors, err));
    QVL_TRY(qvl_onnx_check_overlap(o, err));
    qsort(o->outputs, o->n_outputs, sizeof *o->outputs, by_output);
    for (size_t i = 1; i < o->n_outputs; i++)
        if (!strcmp(o->outputs[i - 1].name, o->outputs[i].name))
            return qvl_fail(err, QVL_E_FORMAT, "%s: value %s is computed by two nodes", o->tensors->path, o->outputs[i].name);
    return 0;
}

static int begin(struct qvl_onnx **out, const char *path, qvl_err *err)
{
    struct qvl_onnx *o = *out = qvl_calloc(1, sizeof *o);
    if (!o)
        return qvl_fail_nomem(err, sizeof *o, path);
    QVL_TRY(qvl_tensors_new(&o->tensors, path, err));
    return qvl_tensors_add_file(o->tensors, path) ? 0 : qvl_fail_nomem(err, strlen(path), path);
}

static int from_path(struct qvl_onnx *o, const char *path, qvl_err *err)
{
    struct qvl_tensor_file *f = &o->tensors->files[0];
    const char *base = qvl_path_base(path);
    o->folder = base == path ? qvl_strdup(".") : qvl_strndup(path, (size_t)(base - path));
    if (!o->folder)
        return qvl_fail_nomem(err, strlen(path), path);
    QVL_TRY(qvl_map_open(&f->map, path, err));
    f->data = f->map.data;
    f->size = f->map.size;
    return read_model(o, err);
}

int qvl_onnx_open(struct qvl_onnx **out, const char *path, qvl_err *err)
{
    int rc = begin(out, path, err);
    if (rc == 0)
        rc = from_path(*out, path, err);
    if (rc < 0)
        qvl_onnx_close(out);
    return rc;
}

int qvl_onnx_open_listed(struct qvl_onnx **out, const char *path, qvl_err *err)
{
    int rc = begin(out, path, err);
    if (rc == 0) {
        (*out)->listed = 1;
        rc = from_path(*out, path, err);
    }
    if (rc < 0)
        qvl_onnx_close(out);
    return rc;
}

int qvl_onnx_open_memory(struct qvl_onnx **out, const void *data, size_t size, const void *external, size_t external_size,
                         const char *what, qvl_err *err)
{
    int rc = begin(out, what, err);
    if (rc == 0) {
        struct qvl_onnx *o = *out;
        o->tensors->files[0].data = data;
        o->tensors->files[0].size = size;
        o->external = external;
        o->external_size = external_size;
        rc = read_model(o, err);
    }
    if (rc < 0)
        qvl_onnx_close(out);
    return rc;
}

void qvl_onnx_close(struct qvl_onnx **op)
{
    if (!op || !*op)
        return;
    struct qvl_onnx *o = *op;
    for (size_t i = 0; i < o->n_owned; i++)
        qvl_mem_free(o->owned[i]);
    qvl_mem_free(o->owned);
    qvl_mem_free(o->outputs);
    qvl_mem_free(o->attrs);
    qvl_mem_free(o->names);
    qvl_mem_free(o->nodes);
    qvl_mem_free(o->folder);
    qvl_tensors_close(&o->tensors);
    qvl_mem_free(o);
    *op = NULL;
}

const struct qvl_tensors *qvl_onnx_tensors(const struct qvl_onnx *o) { return o->tensors; }
size_t qvl_onnx_count(const struct qvl_onnx *o) { return o->n_nodes; }
const struct qvl_onnx_node *qvl_onnx_node(const struct qvl_onnx *o, size_t i) { return i < o->n_nodes ? &o->nodes[i] : NULL; }

const struct qvl_onnx_node *qvl_onnx_producer(const struct qvl_onnx *o, const char *value)
{
    struct qvl_onnx_output key = {value, NULL};
    const struct qvl_onnx_output *f = o->n_outputs ? bsearch(&key, o->outputs, o->n_outputs, sizeof key, by_output) : NULL;
    return f ? f->node : NULL;
}

const char *qvl_onnx_input(const struct qvl_onnx_node *n, size_t i) { return i < n->n_input ? n->input[i] : ""; }

const struct qvl_tensor *qvl_onnx_input_tensor(const struct qvl_onnx *o, const struct qvl_onnx_node *n, size_t i)
{
    const char *name = qvl_onnx_input(n, i);
    return *name ? qvl_tensors_find(o->tensors, name) : NULL;
}

const struct qvl_onnx_attr *qvl_onnx_attr(const struct qvl_onnx_node *n, const char *name)
{
    for (size_t i = 0; i < n->n_attr; i++)
        if (!strcmp(n->attr[i].name, name))
            return &n->attr[i];
    return NULL;
}

int64_t qvl_onnx_attr_int(const struct qvl_onnx_node *n, const char *name, int64_t def)
{
    const struct qvl_onnx_attr *a = qvl_onnx_attr(n, name);
    return a && a->has_i ? a->i : def;
}
