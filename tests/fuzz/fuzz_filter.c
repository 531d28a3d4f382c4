// Goal: no text makes the filter parser crash, leak, keep a part of the text, or refuse without a place and a reason;
// no filter makes matching read past the metadata or answer differently twice; evaluation over field indexes agrees
// with matching. Method: libFuzzer. What is accepted is matched against fixed metadata, after its text and its parser
// are gone, and is matched again negated: exactly one of the two may hold. Then it is evaluated over an index of that
// metadata, once with limits that leave much open.
#include "base/json.h"
#include "kb/filters/filters_internal.h"
#include "tests/fuzz/fuzz.h"

static const char *const metadata[] = {
    "",
    "{}",
    "{\"a\": 1, \"b\": \"red wine\", \"c\": true, \"t\": \"2024-01-31T10:00:00Z\", \"g\": {\"lat\": 52.5, \"lon\": "
    "13.4}}",
    "{\"a\": [1, 1.0, 1.5, -1, null, \"1\", [1], {}], \"b\": {\"a\": {\"a\": []}, \"b\": null}, \"t\": \"2024-01-31 "
    "10:00\"}",
    "{\"a\": [{\"a\": 1, \"b\": [{\"a\": 2}]}, {\"a\": 2, \"b\": []}], \"g\": [{\"lat\": 90, \"lon\": -180}, {\"lat\": "
    "1}]}",
    "[1]",
};

static bool matches(const rag_filter *filter, const char *text, rag_json_parser *parser) {
  bool first = false, second = true;
  REQUIRE(rag_filter_match(filter, rag_slice_str("doc"), rag_slice_str(text), parser, &first, NULL) == RAG_OK);
  REQUIRE(rag_filter_match(filter, rag_slice_str("doc"), rag_slice_str(text), parser, &second, NULL) == RAG_OK);
  REQUIRE(first == second);
  return first;
}

static const char *const ids[RAG_COUNT_OF(metadata)] = {"1", "2", "doc", "a", "", "6"};

static rag_status get_document(void *context, uint32_t revision, rag_slice *id, rag_slice *text, rag_error *err) {
  RAG_UNUSED(context);
  RAG_UNUSED(err);
  *id = rag_slice_str(ids[revision - 1]);
  *text = rag_slice_str(metadata[revision - 1]);
  return RAG_OK;
}

static rag_status find_id(void *context, rag_slice id, bool *found, uint32_t *revision, rag_error *err) {
  RAG_UNUSED(context);
  RAG_UNUSED(err);
  *found = false;
  for (uint32_t i = 0; i < RAG_COUNT_OF(ids); i++) {
    if (!rag_slice_equal(id, rag_slice_str(ids[i]))) continue;
    *found = true;
    *revision = i + 1;
  }
  return RAG_OK;
}

static void evaluate(const rag_filter *filter, bool tiny_limits, rag_json_parser *parser) {
  rag_fields_options options = {0};
  if (tiny_limits) options = (rag_fields_options){.paths_max = 2, .strings_max = 1, .string_bytes_max = 3};
  rag_fields *fields = NULL;
  rag_bitmap *live = NULL, *survivors = NULL;
  rag_bitmap_edit *edit = rag_bitmap_edit_create(NULL);
  rag_kb__fields_row rows[RAG_COUNT_OF(metadata)];
  for (uint32_t i = 0; i < RAG_COUNT_OF(metadata); i++)
    rows[i] = (rag_kb__fields_row){i + 1, rag_slice_str(metadata[i])};
  REQUIRE(rag_fields_create(&options, &fields, NULL) == RAG_OK);
  REQUIRE(rag_kb__fields_append(fields, RAG_COUNT_OF(metadata), rows, NULL) == RAG_OK);
  REQUIRE(edit != NULL && rag_bitmap_edit_add_range(edit, 1, RAG_COUNT_OF(metadata)) == RAG_OK);
  REQUIRE(rag_bitmap_edit_finish(edit, &live) == RAG_OK);
  rag_fields_view *view = rag_fields_pin(fields);
  rag_kb__filter_source source = {.fields = view, .live = live, .get_document = get_document, .find_id = find_id};
  REQUIRE(rag_kb__filter_eval(filter, &source, &survivors, NULL, NULL) == RAG_OK);
  for (uint32_t i = 0; i < RAG_COUNT_OF(metadata); i++) {
    bool pass = false;
    REQUIRE(rag_filter_match(filter, rag_slice_str(ids[i]), rag_slice_str(metadata[i]), parser, &pass, NULL) == RAG_OK);
    REQUIRE(rag_bitmap_has(survivors, i + 1) == pass);
  }
  rag_ref_drop(survivors);
  rag_ref_drop(view);
  rag_ref_drop(live);
  rag_fields_destroy(fields);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  rag_arena *arena = rag_arena_create(0);
  rag_json_parser *parser = rag_json_parser_create();
  char *text = malloc(size > 0 ? size : 1);
  rag_buf negated = {0};
  rag_error err = {0};
  const rag_filter *filter = NULL, *opposite = NULL;
  REQUIRE(arena != NULL && parser != NULL && text != NULL);
  if (size > 0) memcpy(text, data, size);
  rag_status status = rag_filter_parse(rag_slice_of(text, size), arena, &filter, &err);
  free(text);
  if (status == RAG_OK) {
    rag_buf_append_str(&negated, "{\"must_not\": [");
    if (size > 0) rag_buf_append(&negated, data, size);
    else rag_buf_append_str(&negated, "{}");
    rag_buf_append_str(&negated, "]}");
    // One deeper and one condition more may be too much; nothing else may be.
    bool negates = rag_filter_parse(rag_buf_slice(&negated), arena, &opposite, NULL) == RAG_OK;
    REQUIRE(negates || size > 100);
    for (size_t i = 0; i < RAG_COUNT_OF(metadata); i++) {
      bool pass = matches(filter, metadata[i], parser);
      if (negates) REQUIRE(matches(opposite, metadata[i], parser) == !pass);
    }
    for (int tiny = 0; tiny < 2; tiny++) evaluate(filter, tiny == 1, parser);
  } else {
    REQUIRE(status == RAG_INVALID_ARGUMENT && filter == NULL);
    REQUIRE(strncmp(err.field, "filter", 6) == 0 && strncmp(err.message, "filter", 6) == 0);
    REQUIRE(rag_utf8_valid(err.message, strlen(err.message)) && rag_utf8_valid(err.field, strlen(err.field)));
  }
  rag_buf_free(&negated);
  rag_json_parser_destroy(parser);
  rag_arena_destroy(arena);
  return 0;
}
