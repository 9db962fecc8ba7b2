/* test_chat.c - messages in the OpenAI form: what is accepted, and what a refusal says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "text/chat.h"

static void parse(struct qvl_chat *c, struct qvl_chat_options *opt, const char *json)
{
    qvl_err err;
    if (qvl_chat_parse(c, opt, json, strlen(json), "in", &err) != 0)
        fail_msg("%s", err.msg);
}

static void check_item(const struct qvl_item *it, enum qvl_item_kind kind, const char *text)
{
    assert_int_equal(it->kind, kind);
    assert_int_equal(it->media, -1);
    if (!text) {
        assert_null(it->text);
        return;
    }
    assert_non_null(it->text);
    assert_int_equal(it->len, strlen(text));
    assert_string_equal(it->text, text);
}

static void contents(void **state)
{
    (void)state;
    struct qvl_chat c = {0};
    parse(&c, NULL,
          "[{\"role\":\"system\",\"content\":\"S\"},{\"role\":\"user\",\"content\":[]},{\"role\":\"assistant\",\"content\":"
          "null},"
          "{\"role\":\"tool\",\"content\":\"\"},{\"role\":\"developer\",\"content\":\"D\",\"name\":5},{\"role\":"
          "\"assistant\"}]");
    static const qvl_role roles[] = {QVL_ROLE_SYSTEM, QVL_ROLE_USER,   QVL_ROLE_ASSISTANT,
                                     QVL_ROLE_TOOL,   QVL_ROLE_SYSTEM, QVL_ROLE_ASSISTANT};
    static const size_t items[] = {1, 0, 0, 1, 1, 0};
    assert_int_equal(c.n, 6);
    for (size_t i = 0; i < 6; i++) {
        assert_int_equal(c.msg[i].role, roles[i]);
        assert_int_equal(c.msg[i].n_items, items[i]);
        assert_int_equal(c.msg[i].is_list, i == 1);
    }
    check_item(&c.msg[0].items[0], QVL_ITEM_TEXT, "S");
    check_item(&c.msg[3].items[0], QVL_ITEM_TEXT, "");
    qvl_chat_truncate(&c, 1);
    assert_int_equal(c.n, 1);
    qvl_chat_free(&c);
    qvl_chat_free(&c);
}

static void parts(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        enum qvl_item_kind kind;
        const char *text;
    } part[] = {
        {"{\"type\":\"text\",\"text\":\"hi\"}", QVL_ITEM_TEXT, "hi"},
        {"{\"text\":\"hi\"}", QVL_ITEM_TEXT, "hi"},
        {"{\"type\":\"image\",\"image\":\"a.png\"}", QVL_ITEM_IMAGE, "a.png"},
        {"{\"type\":\"image\"}", QVL_ITEM_IMAGE, NULL},
        {"{\"type\":\"image\",\"image\":null,\"path\":\"p\"}", QVL_ITEM_IMAGE, "p"},
        {"{\"type\":\"image\",\"url\":\"u\"}", QVL_ITEM_IMAGE, "u"},
        {"{\"image\":\"a\"}", QVL_ITEM_IMAGE, "a"},
        {"{\"type\":\"image_url\",\"image_url\":\"u\"}", QVL_ITEM_IMAGE, "u"},
        {"{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:,x\",\"detail\":\"low\"}}", QVL_ITEM_IMAGE, "data:,x"},
        {"{\"image_url\":{\"url\":\"\"}}", QVL_ITEM_IMAGE, NULL},
        {"{\"type\":\"video\",\"video\":\"v.mp4\",\"fps\":2}", QVL_ITEM_VIDEO, "v.mp4"},
        {"{\"type\":\"video_url\",\"video_url\":{\"url\":\"v\"}}", QVL_ITEM_VIDEO, "v"},
        {"{\"video\":\"v\"}", QVL_ITEM_VIDEO, "v"},
    };
    for (size_t i = 0; i < sizeof part / sizeof part[0]; i++) {
        struct qvl_chat c = {0};
        char json[256];
        snprintf(json, sizeof json, "[{\"role\":\"user\",\"content\":[%s,{\"type\":\"text\",\"text\":\"end\"}]}]",
                 part[i].json);
        parse(&c, NULL, json);
        assert_int_equal(c.msg[0].n_items, 2);
        check_item(&c.msg[0].items[0], part[i].kind, part[i].text);
        check_item(&c.msg[0].items[1], QVL_ITEM_TEXT, "end");
        qvl_chat_free(&c);
    }
}

/* A NUL in a text is legal and counted. */
static void nul_in_text(void **state)
{
    (void)state;
    struct qvl_chat c = {0};
    parse(&c, NULL, "[{\"role\":\"user\",\"content\":\"a\\u0000b\"}]");
    assert_int_equal(c.msg[0].items[0].len, 3);
    assert_memory_equal(c.msg[0].items[0].text, "a\0b", 4);
    qvl_chat_free(&c);
}

static void options_and_tools(void **state)
{
    (void)state;
    struct qvl_chat c = {0};
    struct qvl_chat_options o = {.add_generation_prompt = 1, .add_vision_id = 1};
    parse(&c, &o, "{\"messages\":[],\"tools\":[{\"name\":\"f\"}]}");
    assert_true(o.add_generation_prompt == 1 && o.add_vision_id == 1); /* kept */
    assert_int_equal(json_array_size(c.tools), 1);
    parse(&c, &o,
          "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"add_generation_prompt\":false,\"add_vision_id\":false,"
          "\"tools\":null}");
    assert_true(o.add_generation_prompt == 0 && o.add_vision_id == 0);
    assert_int_equal(json_array_size(c.tools), 1);
    assert_int_equal(c.n, 1); /* appended */
    parse(&c, &o, "{\"messages\":[],\"tools\":[]}");
    assert_null(c.tools);
    qvl_chat_free(&c);
}

static void reasoning_and_calls(void **state)
{
    (void)state;
    struct qvl_chat c = {0};
    parse(&c, NULL,
          "[{\"role\":\"assistant\",\"reasoning_content\":\"why\",\"tool_calls\":[{\"id\":\"1\",\"type\":\"function\","
          "\"function\":"
          "{\"name\":\"f\",\"arguments\":\"{}\"}},{\"name\":\"g\",\"arguments\":{\"a\":1}}]},{\"role\":\"assistant\","
          "\"content\":"
          "\"x\",\"reasoning_content\":null,\"tool_calls\":[]}]");
    assert_string_equal(c.msg[0].reasoning, "why");
    assert_int_equal(json_array_size(c.msg[0].tool_calls), 2);
    const json_t *f = qvl_tool_call_function(json_array_get(c.msg[0].tool_calls, 0));
    const json_t *g = qvl_tool_call_function(json_array_get(c.msg[0].tool_calls, 1));
    assert_string_equal(json_string_value(json_object_get(f, "name")), "f");
    assert_string_equal(json_string_value(json_object_get(g, "name")), "g");
    assert_null(c.msg[1].reasoning);
    assert_null(c.msg[1].tool_calls);
    qvl_chat_free(&c);
}

/* Refusals: code, and words that name the place. The conversation stays as it was. */
static void refusals(void **state)
{
    (void)state;
    static const struct {
        int code;
        const char *words, *json;
    } bad[] = {
        {QVL_E_FORMAT, "in: line 1", "[{"},
        {QVL_E_FORMAT, "in: line 1", ""},
        {QVL_E_FORMAT, "list of messages", "{}"},
        {QVL_E_FORMAT, "list of messages", "{\"messages\":5}"},
        {QVL_E_FORMAT, "message 0: is not an object", "[5]"},
        {QVL_E_FORMAT, "message 1: role", "[{\"role\":\"user\",\"content\":\"x\"},{\"content\":\"x\"}]"},
        {QVL_E_FORMAT, "message 0: role", "[{\"role\":1,\"content\":\"x\"}]"},
        {QVL_E_UNSUPPORTED, "message 0: role \"function\"", "[{\"role\":\"function\",\"content\":\"x\"}]"},
        {QVL_E_FORMAT, "message 0: no content", "[{\"role\":\"user\"}]"},
        {QVL_E_FORMAT, "message 0: content", "[{\"role\":\"user\",\"content\":5}]"},
        {QVL_E_FORMAT, "message 0: content", "[{\"role\":\"user\",\"content\":{\"type\":\"text\"}}]"},
        {QVL_E_FORMAT, "content[1] is not", "[{\"role\":\"user\",\"content\":[{\"text\":\"a\"},\"b\"]}]"},
        {QVL_E_UNSUPPORTED, "content[0]: type \"audio\"", "[{\"role\":\"user\",\"content\":[{\"type\":\"audio\"}]}]"},
        {QVL_E_UNSUPPORTED, "content[0]: type \"(none)\"", "[{\"role\":\"user\",\"content\":[{}]}]"},
        {QVL_E_FORMAT, "content[0].type", "[{\"role\":\"user\",\"content\":[{\"type\":5}]}]"},
        {QVL_E_FORMAT, "content[0].text", "[{\"role\":\"user\",\"content\":[{\"type\":\"text\"}]}]"},
        {QVL_E_FORMAT, "content[0].text", "[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":null}]}]"},
        {QVL_E_UNSUPPORTED, "content[0].image_url",
         "[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":5}]}]"},
        {QVL_E_UNSUPPORTED, "content[0].image_url",
         "[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":{}}]}]"},
        {QVL_E_UNSUPPORTED, "content[0].video",
         "[{\"role\":\"user\",\"content\":[{\"type\":\"video\",\"video\":[\"1.png\"]}]}]"},
        {QVL_E_FORMAT, "content[0].image: holds a NUL", "[{\"role\":\"user\",\"content\":[{\"image\":\"a\\u0000b\"}]}]"},
        {QVL_E_FORMAT, "reasoning_content", "[{\"role\":\"assistant\",\"content\":\"\",\"reasoning_content\":5}]"},
        {QVL_E_FORMAT, "reasoning_content", "[{\"role\":\"assistant\",\"content\":\"\",\"reasoning_content\":\"\\u0000\"}]"},
        {QVL_E_FORMAT, "tool_calls is not", "[{\"role\":\"assistant\",\"tool_calls\":{}}]"},
        {QVL_E_FORMAT, "tool_calls[0]: name", "[{\"role\":\"assistant\",\"tool_calls\":[{\"arguments\":{}}]}]"},
        {QVL_E_FORMAT, "tool_calls[0]: name", "[{\"role\":\"assistant\",\"tool_calls\":[\"f\"]}]"},
        {QVL_E_FORMAT, "tool_calls[1]: no arguments",
         "[{\"role\":\"assistant\",\"tool_calls\":[{\"name\":\"f\",\"arguments\":{}},{\"function\":{\"name\":\"g\"}}]}]"},
        {QVL_E_FORMAT, "tools is not", "{\"messages\":[],\"tools\":{}}"},
        {QVL_E_FORMAT, "tools[0]", "{\"messages\":[],\"tools\":[1]}"},
        {QVL_E_FORMAT, "add_vision_id", "{\"messages\":[],\"add_vision_id\":1}"},
        {QVL_E_FORMAT, "add_generation_prompt", "{\"messages\":[],\"add_generation_prompt\":\"yes\"}"},
    };
    struct qvl_chat c = {0};
    struct qvl_chat_options o = {1, 0};
    parse(&c, &o, "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"tools\":[{}]}");
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        qvl_err err = {0};
        int rc = qvl_chat_parse(&c, &o, bad[i].json, strlen(bad[i].json), "in", &err);
        if (rc != bad[i].code || !strstr(err.msg, bad[i].words))
            fail_msg("%s\ngives %d: %s", bad[i].json, rc, rc ? err.msg : "accepted");
        assert_int_equal(c.n, 1);
        assert_int_equal(json_array_size(c.tools), 1);
        assert_true(o.add_generation_prompt == 1 && o.add_vision_id == 0);
    }
    qvl_chat_free(&c);
}

/* Nesting ends in an error, not in a stack overflow. */
static void nesting(void **state)
{
    (void)state;
    size_t depth = 100000;
    char *json = malloc(2 * depth + 64);
    struct qvl_chat c = {0};
    qvl_err err;
    assert_non_null(json);
    size_t n = (size_t)sprintf(json, "{\"messages\":[],\"tools\":[{\"a\":");
    memset(json + n, '[', depth);
    memset(json + n + depth, ']', depth);
    memcpy(json + n + 2 * depth, "}]}", 3);
    assert_true(qvl_chat_parse(&c, NULL, json, n + 2 * depth + 3, "in", &err) < 0);
    free(json);
    qvl_chat_free(&c);
}

/* qvl_chat_add takes the message away from the caller, also when the list grows. */
static void adding(void **state)
{
    (void)state;
    struct qvl_chat c = {0};
    qvl_err err;
    for (size_t i = 0; i < 100; i++) {
        struct qvl_message m = {.role = QVL_ROLE_USER, .reasoning = qvl_strdup("r")};
        assert_int_equal(qvl_chat_add(&c, &m, &err), 0);
        assert_null(m.reasoning);
        assert_int_equal(c.n, i + 1);
    }
    qvl_chat_free(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(contents),
        cmocka_unit_test(parts),
        cmocka_unit_test(nul_in_text),
        cmocka_unit_test(options_and_tools),
        cmocka_unit_test(reasoning_and_calls),
        cmocka_unit_test(refusals),
        cmocka_unit_test(nesting),
        cmocka_unit_test(adding),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
