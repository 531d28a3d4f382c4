// What a calibration measured, read again: how wide to look for a recall, and what recall a width has. (FAISS's indexes have
// one more number to choose, and rungs of their own: index/faiss/search.c.)
#include "index/index_internal.h"

// Of what a target leaves to be missed, the part that is kept back: calibration asks some hundreds of rows, so what it
// measures is a few thousandths off, and queries are of another kind (benchmarks/sealing: .981 was measured, .979 found).
#define TARGET_RESERVE 0.1

static bool is_part(float value) {  // of recall; below 0: not measured
  return value >= -1 && value <= 1; // false for a NaN
}

bool rag_index__rungs_sound(const rag_index_rung *rungs, uint32_t count, uint32_t width_max) {
  for (uint32_t i = 0; i < count; i++) {
    const rag_index_rung *rung = &rungs[i];
    if (rung->width <= (i > 0 ? rungs[i - 1].width : 0) || rung->width > width_max) return false;
    if (!is_part(rung->recall_10) || !is_part(rung->recall_100)) return false;
    if (!(rung->cost >= 0 && rung->cost <= FLT_MAX)) return false;
  }
  return true;
}

static double recall_of(const rag_index_rung *rung, bool of_100) {
  return (double)(of_100 ? rung->recall_100 : rung->recall_10);
}

double rag_index__rungs_width(const rag_index_rung *rungs, uint32_t count, float target_recall, bool of_100) {
  double target = (double)target_recall + TARGET_RESERVE * (1 - (double)target_recall), last = 0, last_recall = -1;
  for (uint32_t i = 0; i < count; i++) {
    double recall = recall_of(&rungs[i], of_100), width = rungs[i].width;
    if (recall < 0) continue;
    if (recall >= target) {
      if (last_recall < 0 || recall <= last_recall) return width;
      return last + (width - last) * (target - last_recall) / (recall - last_recall);
    }
    last = width;
    last_recall = recall;
  }
  return 0;
}

double rag_index__rungs_recall(const rag_index_rung *rungs, uint32_t count, uint32_t k, uint32_t width) {
  double recall = 0;
  uint32_t below = 0;
  for (uint32_t i = 0; i < count; i++) {
    uint32_t here = rungs[i].width;
    double measured = recall_of(&rungs[i], k > 10);
    if (measured < 0) continue;
    if (here > width) {
      if (recall > 0) recall += (measured - recall) * (width - below) / (here - below);
      break;
    }
    recall = measured;
    below = here;
  }
  return recall;
}
