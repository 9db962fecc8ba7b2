/* gguf_build.h - GGUF files put together byte by byte, right and wrong ones. */
#ifndef QVL_TESTS_GGUF_BUILD_H
#define QVL_TESTS_GGUF_BUILD_H

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"

enum { U8, I8, U16, I16, U32, I32, F32, BOOL, STR, ARR, U64, I64, F64 };

struct gguf {
    struct qvl_buf kv, info, data, out;
    uint64_t n_kv, n_tensors;
    uint32_t version, align;
};

static inline void put(struct qvl_buf *b, uint64_t v, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        qvl_buf_putc(b, (int)(v >> 8 * i & 255));
}

static inline void put_str(struct qvl_buf *b, const char *s, size_t n)
{
    put(b, n, 8);
    qvl_buf_add(b, s, n);
}

static inline void gguf_begin(struct gguf *g)
{
    *g = (struct gguf){.version = 3, .align = 32};
    qvl_buf_init(&g->kv, 1 << 22);
    qvl_buf_init(&g->info, 1 << 22);
    qvl_buf_init(&g->data, 1 << 22);
    qvl_buf_init(&g->out, 1 << 24);
}

static inline void gguf_free(struct gguf *g)
{
    qvl_buf_free(&g->kv);
    qvl_buf_free(&g->info);
    qvl_buf_free(&g->data);
    qvl_buf_free(&g->out);
}

/* Key and type; the value follows by put(&g->kv, ...). */
static inline void gguf_key(struct gguf *g, const char *key, uint32_t type)
{
    put_str(&g->kv, key, strlen(key));
    put(&g->kv, type, 4);
    g->n_kv++;
}

static inline void gguf_uint(struct gguf *g, const char *key, uint32_t type, uint64_t v)
{
    static const unsigned width[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    gguf_key(g, key, type);
    put(&g->kv, v, width[type]);
}

static inline void gguf_f32(struct gguf *g, const char *key, float v)
{
    uint32_t u;
    memcpy(&u, &v, 4);
    gguf_uint(g, key, F32, u);
}

static inline void gguf_text(struct gguf *g, const char *key, const char *s)
{
    gguf_key(g, key, STR);
    put_str(&g->kv, s, strlen(s));
}

/* Element type and count; the elements follow. */
static inline void gguf_list(struct gguf *g, const char *key, uint32_t type, uint64_t n)
{
    gguf_key(g, key, ARR);
    put(&g->kv, type, 4);
    put(&g->kv, n, 8);
}

static inline void gguf_info(struct gguf *g, const char *name, uint32_t rank, const uint64_t *ne, uint32_t type, uint64_t offset)
{
    put_str(&g->info, name, strlen(name));
    put(&g->info, rank, 4);
    for (uint32_t i = 0; i < rank; i++)
        put(&g->info, ne[i], 8);
    put(&g->info, type, 4);
    put(&g->info, offset, 8);
    g->n_tensors++;
}

/* A tensor of n0 x n1 with `bytes` bytes of data that count up. */
static inline void gguf_tensor(struct gguf *g, const char *name, uint32_t type, uint64_t n0, uint64_t n1, size_t bytes)
{
    while (g->data.len % g->align)
        qvl_buf_putc(&g->data, 0);
    gguf_info(g, name, 2, (const uint64_t[]){n0, n1}, type, g->data.len);
    for (size_t i = 0; i < bytes; i++)
        qvl_buf_putc(&g->data, (int)(i & 255));
}

/* The whole file in g->out. */
static inline void gguf_end(struct gguf *g)
{
    qvl_buf_add(&g->out, "GGUF", 4);
    put(&g->out, g->version, 4);
    put(&g->out, g->n_tensors, 8);
    put(&g->out, g->n_kv, 8);
    if (g->kv.len)
        qvl_buf_add(&g->out, g->kv.data, g->kv.len);
    if (g->info.len)
        qvl_buf_add(&g->out, g->info.data, g->info.len);
    while (g->data.len && g->out.len % g->align)
        qvl_buf_putc(&g->out, 0);
    if (g->data.len)
        qvl_buf_add(&g->out, g->data.data, g->data.len);
}

#endif
