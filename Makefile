# The front door. Underneath: CMake, Ninja, CTest.
#   make          build build/qvl and the libraries      make demo     ask the tiny model about its example pictures
#   make check    build and run every test               make install  [PREFIX=/usr/local] [DESTDIR=]
#   make fuzz     search for crashes [SECONDS=600]       make bench    measure this machine and a 4B-shaped model
#   make compare  measure beside llama.cpp               make deps     install missing Debian packages
#   make quality  what each precision costs (Python: tools/tiny/requirements.txt)
#   make check-llama  the same answers as llama.cpp?     make clean    remove what was built
BUILD  ?= build
PREFIX ?= /usr/local
SECONDS ?= 600
PYTHON ?= python3

all: $(BUILD)/build.ninja
	@cmake --build $(BUILD)

$(BUILD)/build.ninja:
	@command -v cmake >/dev/null && command -v ninja >/dev/null || { echo "cmake or ninja is missing: run 'make deps' first"; exit 1; }
	@cmake -G Ninja -S . -B $(BUILD) -DCMAKE_BUILD_TYPE=Release -DCMAKE_INSTALL_PREFIX=$(PREFIX)

deps:
	@tools/deps.sh

demo:
	@echo "demo: install missing packages, build, then describe example pictures with the tiny model"
	@tools/deps.sh && $(MAKE) --no-print-directory all && tools/demo.sh $(BUILD)/qvl

check:
	@echo "check: install missing packages, build with gcc and clang, run every test, also under sanitizers"
	@tools/deps.sh && tools/check.sh

fuzz:
	@tools/deps.sh && tools/fuzz.sh $(SECONDS)

bench: all
	@$(BUILD)/qvl bench --shape 4b

compare: all
	@bench/compare/run.sh $(OPTIONS)

check-llama: all
	@$(PYTHON) tools/reference/check_llama_cpp.py --qvl $(BUILD)/qvl || [ $$? = 77 ]

quality: all
	@$(PYTHON) bench/quality.py --qvl $(BUILD)/qvl

install: all
	@cmake -B $(BUILD) -DCMAKE_INSTALL_PREFIX=$(PREFIX) >/dev/null && cmake --build $(BUILD) && cmake --install $(BUILD)

clean:
	@rm -rf build build-*

.PHONY: all deps demo check fuzz bench compare check-llama quality install clean
