"""Asks a model about a picture through libqvl.so. usage: describe.py MODEL PICTURE [QUESTION]

The order of the fields is that of qvl.h; struct_size makes it right for later versions, too."""
import sys
from ctypes import CDLL, CFUNCTYPE, POINTER, Structure, byref, c_char, c_char_p, c_float, c_int, c_size_t, c_uint32, c_uint64, c_void_p, string_at

lib, TextFn = CDLL("libqvl.so.0"), CFUNCTYPE(c_int, c_void_p, POINTER(c_char), c_size_t)
Err = type("Err", (Structure,), {"_fields_": [("code", c_int), ("msg", c_char * 512)]})
Part = type("Part", (Structure,), {"_fields_": [("kind", c_int), ("data", c_char_p), ("len", c_size_t), ("width", c_uint32), ("height", c_uint32)]})
ModelParams = type("ModelParams", (Structure,), {"_fields_": [("struct_size", c_size_t), ("path", c_char_p), ("rest", c_char * 256)]})
GenParams = type("GenParams", (Structure,), {"_fields_": [
    ("struct_size", c_size_t), ("max_tokens", c_uint32), ("greedy", c_int), ("temperature", c_float), ("top_k", c_uint32), ("top_p", c_float),
    ("min_p", c_float), ("penalties", c_float * 3), ("seed", c_uint64), ("stop", c_void_p), ("n_stop", c_size_t),
    ("no_generation_prompt", c_int), ("trace_path", c_char_p), ("on_text", TextFn), ("rest", c_char * 256)]})


def check(code):
    if code != 0:
        sys.exit("describe: " + err.msg.decode())


err, model, session, params, gen = Err(), c_void_p(), c_void_p(), ModelParams(), GenParams()
question = (sys.argv[3] if len(sys.argv) > 3 else "Describe this image.").encode()
parts = (Part * 2)(Part(1, sys.argv[2].encode()), Part(0, question, len(question)))
lib.qvl_model_params_default(byref(params))
params.path = sys.argv[1].encode()
check(lib.qvl_model_open(byref(model), byref(params), byref(err)))
lib.qvl_gen_params_default(byref(gen), model)
gen.on_text = TextFn(lambda ud, text, size: print(string_at(text, size).decode(), end="", flush=True) or 0)
check(lib.qvl_session_open(byref(session), model, None, byref(err)))
check(lib.qvl_session_add(session, 1, parts, c_size_t(2), byref(err)))
check(lib.qvl_session_generate(session, byref(gen), None, byref(err)))
print()
lib.qvl_session_close(byref(session))
lib.qvl_model_close(byref(model))
