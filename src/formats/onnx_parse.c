/* onnx_parse.c - ModelProto -> nodes, attributes and tensors of the top graph.
 *
 * Twice over the file: first everything is counted and checked, so that memory is taken once, for what is really there. */
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "formats/onnx_file.h"

/* Field numbers of the messages that are read. */
enum { MODEL_GRAPH = 7 };
enum { GRAPH_NODE = 1, GRAPH_INITIALIZER = 5, GRAPH_SPARSE_INITIALIZER = 15 };
enum { NODE_INPUT = 1, NODE_OUTPUT = 2, NODE_NAME = 3, NODE_OP = 4, NODE_ATTRIBUTE = 5, NODE_DOMAIN = 7 };
enum { ATTR_NAME = 1, ATTR_F = 2, ATTR_I = 3, ATTR_TENSOR = 5, ATTR_INTS = 8 };
enum { TENSOR_NAME = 8 };

struct scan {
    struct qvl_onnx *o;
    int fill;                      /* second pass */
    size_t n_nodes, n_names, n_attrs, n_tensors, n_outputs, bytes;
    char *strings;
    qvl_err *err;
};

/* A name: counted in the first pass, copied in the second. */
static int text(struct scan *s, const struct qvl_pb *m, const struct qvl_pb_field *f, const char **out)
{
    QVL_TRY(qvl_pb_expect(m, f, QVL_PB_BYTES, s->err));
    if (f->size > QVL_ONNX_MAX_NAME)
        return qvl_fail(s->err, QVL_E_LIMIT, "%s: name of %zu bytes, the limit is %u", m->file, f->size, QVL_ONNX_MAX_NAME);
    if (f->size && memchr(f->data, 0, f->size))
        return qvl_fail(s->err, QVL_E_FORMAT, "%s: name with a NUL in it at byte %zu", m->file, (size_t)(f->data - m->begin));
    *out = "";
    if (s->fill) {
        char *p = s->strings + s->bytes;
        if (f->size)
            memcpy(p, f->data, f->size);
        p[f->size] = 0;
        *out = p;
    }
    s->bytes += f->size + 1; /* bounded by the file */
    return 0;
}

static int read_ints(struct scan *s, const struct qvl_pb *m, const struct qvl_pb_field *f, struct qvl_onnx_attr *a)
{
    struct qvl_pb_values v;
    uint64_t value;
    int rc;
    QVL_TRY(qvl_pb_values(&v, m, f, QVL_PB_VARINT, s->err));
    while ((rc = qvl_pb_value(&v, &value, s->err)) > 0) {
        if (a->n_ints < QVL_ONNX_MAX_INTS)
            a->ints[a->n_ints] = (int64_t)value;
        a->n_ints++;
    }
    return rc;
}

/* *tensor is the place of a tensor value, if there is one. */
static int read_attr(struct scan *s, const struct qvl_pb *m, const struct qvl_pb_field *field, struct qvl_pb *tensor)
{
    struct qvl_pb in;
    struct qvl_pb_field f;
    struct qvl_onnx_attr a = {.name = ""};
    int rc;
    QVL_TRY(qvl_pb_enter(&in, m, field, s->err));
    while ((rc = qvl_pb_next(&in, &f, s->err)) > 0) {
        switch (f.number) {
        case ATTR_NAME: QVL_TRY(text(s, &in, &f, &a.name)); break;
        case ATTR_F: {
            uint32_t u = (uint32_t)f.value;
            QVL_TRY(qvl_pb_expect(&in, &f, QVL_PB_FIXED32, s->err));
            memcpy(&a.f, &u, 4);
            a.has_f = 1;
            break;
        }
        case ATTR_I:
            QVL_TRY(qvl_pb_expect(&in, &f, QVL_PB_VARINT, s->err));
            a.i = (int64_t)f.value;
            a.has_i = 1;
            break;
        case ATTR_INTS: QVL_TRY(read_ints(s, &in, &f, &a)); break;
        case ATTR_TENSOR: QVL_TRY(qvl_pb_enter(tensor, &in, &f, s->err)); break;
        default: break;
        }
    }
    if (rc == 0 && s->fill)
        s->o->attrs[s->n_attrs] = a;
    s->n_attrs++;
    return rc;
}

/* All inputs, or all outputs, of a node. */
static int read_names(struct scan *s, struct qvl_pb in, uint32_t number, const char *const **list, size_t *n)
{
    struct qvl_pb_field f;
    int rc;
    *list = s->fill ? s->o->names + s->n_names : NULL;
    *n = 0;
    while ((rc = qvl_pb_next(&in, &f, s->err)) > 0) {
        const char *name = "";
        if (f.number != number)
            continue;
        QVL_TRY(text(s, &in, &f, &name));
        if (s->n_names >= QVL_ONNX_MAX_NAMES)
            return qvl_fail(s->err, QVL_E_LIMIT, "%s: more than %u inputs and outputs of nodes", in.file, QVL_ONNX_MAX_NAMES);
        if (s->fill)
            s->o->names[s->n_names] = name;
        s->n_names++;
        ++*n;
    }
    return rc;
}

static int one_more_tensor(struct scan *s, const char *file)
{
    if (s->n_tensors++ < QVL_ONNX_MAX_TENSORS)
        return 0;
    return qvl_fail(s->err, QVL_E_LIMIT, "%s: more than %u tensors", file, QVL_ONNX_MAX_TENSORS);
}

static int read_node(struct scan *s, const struct qvl_pb *m, const struct qvl_pb_field *field)
{
    struct qvl_pb in, sweep, tensor = {0};
    struct qvl_pb_field f;
    struct qvl_onnx_node n = {.op = "", .domain = "", .name = ""};
    int rc;
    if (s->n_nodes >= QVL_ONNX_MAX_NODES)
        return qvl_fail(s->err, QVL_E_LIMIT, "%s: more than %u nodes", m->file, QVL_ONNX_MAX_NODES);
    QVL_TRY(qvl_pb_enter(&in, m, field, s->err));
    QVL_TRY(read_names(s, in, NODE_INPUT, &n.input, &n.n_input));
    QVL_TRY(read_names(s, in, NODE_OUTPUT, &n.output, &n.n_output));
    n.attr = s->fill ? s->o->attrs + s->n_attrs : NULL;
    sweep = in;
    while ((rc = qvl_pb_next(&sweep, &f, s->err)) > 0) {
        switch (f.number) {
        case NODE_NAME: QVL_TRY(text(s, &sweep, &f, &n.name)); break;
        case NODE_OP: QVL_TRY(text(s, &sweep, &f, &n.op)); break;
        case NODE_DOMAIN: QVL_TRY(text(s, &sweep, &f, &n.domain)); break;
        case NODE_ATTRIBUTE:
            QVL_TRY(read_attr(s, &sweep, &f, &tensor));
            n.n_attr++;
            break;
        default: break;
        }
    }
    QVL_TRY(rc);
    if (tensor.begin) { /* of a Constant it is a tensor like any other; room is counted for all of them */
        QVL_TRY(one_more_tensor(s, m->file));
        if (s->fill && !strcmp(n.op, "Constant") && n.n_output == 1 && *n.output[0])
            QVL_TRY(qvl_onnx_add_tensor(s->o, tensor, n.output[0], s->err));
    }
    if (s->fill)
        s->o->nodes[s->n_nodes] = n;
    s->n_nodes++;
    s->n_outputs += n.n_output;
    return 0;
}

static int read_initializer(struct scan *s, const struct qvl_pb *m, const struct qvl_pb_field *field)
{
    struct qvl_pb in, sweep;
    struct qvl_pb_field f;
    const char *name = "";
    int rc;
    QVL_TRY(qvl_pb_enter(&in, m, field, s->err));
    sweep = in;
    while ((rc = qvl_pb_next(&sweep, &f, s->err)) > 0)
        if (f.number == TENSOR_NAME)
            QVL_TRY(text(s, &sweep, &f, &name));
    QVL_TRY(rc);
    QVL_TRY(one_more_tensor(s, m->file));
    if (s->fill && !*name)
        return qvl_fail(s->err, QVL_E_FORMAT, "%s: tensor without a name", m->file);
    return s->fill ? qvl_onnx_add_tensor(s->o, in, name, s->err) : 0;
}

static int read_graph(struct scan *s, struct qvl_pb g)
{
    struct qvl_pb_field f;
    int rc;
    while ((rc = qvl_pb_next(&g, &f, s->err)) > 0) {
        if (f.number == GRAPH_NODE)
            QVL_TRY(read_node(s, &g, &f));
        else if (f.number == GRAPH_INITIALIZER)
            QVL_TRY(read_initializer(s, &g, &f));
        else if (f.number == GRAPH_SPARSE_INITIALIZER)
            return qvl_fail(s->err, QVL_E_UNSUPPORTED, "%s: sparse tensors are not supported", g.file);
    }
    return rc;
}

/* The only graph of the model. */
static int find_graph(struct qvl_pb *graph, struct qvl_pb m, qvl_err *err)
{
    struct qvl_pb_field f;
    int rc, found = 0;
    while ((rc = qvl_pb_next(&m, &f, err)) > 0) {
        if (f.number != MODEL_GRAPH)
            continue;
        if (found++)
            return qvl_fail(err, QVL_E_FORMAT, "%s: found more than one graph", m.file);
        QVL_TRY(qvl_pb_enter(graph, &m, &f, err));
    }
    if (rc == 0 && !found)
        return qvl_fail(err, QVL_E_FORMAT, "%s: no graph in it: this is not an ONNX model", m.file);
    return rc;
}

int qvl_onnx_parse(struct qvl_onnx *o, qvl_err *err)
{
    struct qvl_tensor_file *file = &o->tensors->files[0];
    struct scan s = {.o = o, .err = err};
    struct qvl_pb graph = {0};
    QVL_TRY(find_graph(&graph, qvl_pb_open(file->data, file->size, file->path), err));
    QVL_TRY(read_graph(&s, graph));
    o->nodes = qvl_calloc(s.n_nodes, sizeof *o->nodes);
    o->names = qvl_alloc(s.n_names, sizeof *o->names);
    o->attrs = qvl_alloc(s.n_attrs, sizeof *o->attrs);
    o->outputs = qvl_alloc(s.n_outputs, sizeof *o->outputs);
    file->strings = qvl_alloc(s.bytes, 1);
    if (!o->nodes || !o->names || !o->attrs || !o->outputs || !file->strings)
        return qvl_fail_nomem(err, s.bytes + s.n_nodes * sizeof *o->nodes, file->path);
    QVL_TRY(qvl_tensors_reserve(o->tensors, s.n_tensors, err));
    struct scan fill = {.o = o, .err = err, .fill = 1, .strings = file->strings};
    QVL_TRY(read_graph(&fill, graph));
    o->n_nodes = fill.n_nodes;
    for (size_t i = 0; i < o->n_nodes; i++)
        for (size_t k = 0; k < o->nodes[i].n_output; k++)
            if (*o->nodes[i].output[k])
                o->outputs[o->n_outputs++] = (struct qvl_onnx_output){o->nodes[i].output[k], &o->nodes[i]};
    return 0;
}
