// Lists of owned strings, and the names of the enums of kb.h.
#include "kb/kb_internal.h"

#include <stdlib.h>

rag_status rag_strings_add(rag_strings *list, rag_slice s, rag_error *err) {
  if (list->count == list->capacity) {
    size_t capacity = list->capacity ? list->capacity * 2 : 16;
    char **items = rag_realloc_array(list->items, capacity, sizeof *items);
    if (items == NULL) return rag_fail_no_memory(err, capacity * sizeof *items);
    list->items = items;
    list->capacity = capacity;
  }
  char *copy = rag_strndup(s.data ? s.data : "", s.size);
  if (copy == NULL) return rag_fail_no_memory(err, s.size);
  list->items[list->count++] = copy;
  return RAG_OK;
}

static int compare_strings(const void *a, const void *b) {
  return strcmp(*(char *const *)a, *(char *const *)b);
}

void rag_strings_sort(rag_strings *list) {
  if (list->count > 1) qsort(list->items, list->count, sizeof *list->items, compare_strings);
}

void rag_strings_free(rag_strings *list) {
  if (list == NULL) return;
  for (size_t i = 0; i < list->count; i++) rag_free(list->items[i]);
  rag_free(list->items);
  *list = (rag_strings){0};
}

static const char *const commit_kinds[] = {"init", "put", "metadata", "merge", "rollback", "delete", "import"};
const char *rag_commit_kind_name(rag_commit_kind kind) {
  return (unsigned)kind < RAG_COUNT_OF(commit_kinds) ? commit_kinds[kind] : "unknown";
}
