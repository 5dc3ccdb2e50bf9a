#pragma once
// c[rows][vectors] by tiles: columns of b as wide as a tile, strips of rows inside, so that a column of b stays in the
// nearest cache while the strips pass. And what they ask for meanwhile, by who waits for b:
//
//   rows     b              what is asked for
//   1 to 3   out of memory  each load's own lines a little ahead (wide vectors; the hardware does it for narrow ones)
//   a strip  packed         the lines of its own panels a little ahead (wide vectors)
//   a few    out of memory  the next column, in all its panels at a time (wide vectors) or two (narrow ones)
//   more     packed         a share of the next column in each strip: 3 to 10 % where b comes from L3
#include "kernels/tile.hpp"

namespace tfcore {
namespace {

// The rows of a product as evenly as possible over the fewest strips of tiles: 16 is 8 + 8, not 12 + 4.
struct Strips {
  int count, rows, longer;  // the first `longer` strips have one row more than `rows`
  Strips(std::int64_t total, std::int64_t vectors)
      : count(int(vectors > kNarrowVectors ? (total + kWideTileRows - 1) / kWideTileRows
                                           : (total + kTileRows - 1) / kTileRows)),
        rows(count ? int(total / count) : 0), longer(count ? int(total % count) : 0) {}
  int size(int i) const { return rows + (i < longer); }
  int widest() const { return rows + (longer > 0); }
};

// How many depths all tiles of a product run through.
template <class T, Adjacent adjacent> Index steps_of_tiles(Index rows, Index vectors, Index depth) {
  const Strips strips(rows, vectors);
  const Index widest = widest_tile<T, adjacent>(strips.widest(), vectors);
  return strips.count * ((vectors + widest - 1) / widest) * depth;
}

// Where b comes from.
template <class T> struct Source {
  bool packed;     // panels one after the other: what comes next is the next column
  bool far;        // out of memory, where few rows wait for it
  const T* after;  // what follows the last column, or null for the panel beyond
};

// Of few rows that wait for b out of memory, narrow vectors ask for the second half of the next panel and the first
// half of the one after it, line by line in turn. A core has so many lines under way at a time; the hardware adds some
// of its own wherever it sees lines read one after the other, and in two panels it sees that twice. (Zen 3, both cores:
// 4 to 7 rows 1.2 to 1.27 times as fast as with lines of the next panel alone, 9 and 12 rows 1.07 and 1.03; half as
// much of it if a strip by itself asked for a line once. Out of L3 up to 5 % slower, but 7 rows 1.16 times as fast.
// Four panels at a time are another 1.1 at up to 6 rows, yet only where a panel is read whole before the next, which
// costs more than that at K = 1536. Two places within a panel, or a panel further on: nothing. More than two strips:
// nothing.)
constexpr int kTwoPanelStrips = 2;

// Wide vectors ask for the next column in all its panels at a time, half of it in either of the first two strips; three
// strips for a panel each. (Zen 4, both cores, MiniLM-L6 and BERT-base: 1.1 to 1.2 times as fast at 9 to 24 rows as
// with every other line of a share in each strip, 1.05 at 32, 0.98 at 64. Three strips in all panels: 0.88 to 1. One
// panel after the other in two strips: 1.1 and 0.95. Behind its last column what a thread reads first of the layer's
// next weights: nothing.)
constexpr int kAllPanelStrips = 4;

template <class T, Adjacent adjacent> Asks choose_asks(const Source<T>& b, Index rows, Index strips) {
  if (adjacent == Adjacent::rows) return Asks::ahead;
  if (!kAsksForOwn) {
    if (!b.packed || !b.far || rows == 1 || strips > kTwoPanelStrips) return Asks::ahead;
    return strips == 1 ? Asks::two_ahead_twice : Asks::two_ahead;
  }
  if (rows < kAheadRows) return b.far ? Asks::own_lines : Asks::nothing;
  if (b.packed && strips == 1) return Asks::own_panels;
  if (!b.packed || !b.far || strips > kAllPanelStrips) return Asks::ahead;
  return strips == 3 ? Asks::ahead_often : Asks::all_ahead;
}

// What the strips over one column ask for of the next one, and the second from here.
template <class T> class NextColumn {
 public:
  NextColumn(Asks asks, const T* next, const T* second, int panels, int strips, const Tile<T>& t)
      : asks_(asks), here_(bytes(t.b)), next_(bytes(next)), second_(bytes(second)), strips_(strips),
        panel_(t.depth * kLineBytes), panel_stride_(t.panel_stride * Index(sizeof(T))), share_(share(panels, strips)) {}

  // Field by field: as one value, put together and copied, it waits for all stores of the tile before, 2 to 3 %.
  TFCORE_INLINE void ask_in_strip(int i, Ahead& ahead) {
    constexpr Index every_line = kLineBytes / 2;
    const Index half = panel_ / 2;
    if (asks_ == Asks::all_ahead) {
      const bool first_two = i < 2;
      ahead.asks = first_two ? asks_ : Asks::ahead, ahead.from = first_two ? next_ + i * half : here_;
      ahead.step = first_two ? every_line : 0, ahead.stride = panel_stride_;
    } else if (asks_ >= Asks::two_ahead) {
      ahead.from = next_ + half + half * i / strips_;
      ahead.step = every_line / strips_, ahead.stride = second_ - next_ - half;
    } else {  // one panel after the other over all depths
      for (; asked_ >= panel_; asked_ -= panel_) next_ += panel_stride_;
      ahead.from = next_ + asked_, ahead.step = share_;
      asked_ += share_ * (panel_ / kLineBytes);
    }
  }

 private:
  static const char* bytes(const T* p) { return reinterpret_cast<const char*>(p); }
  static Index share(int panels, int strips) { return max(16, min(panels * kLineBytes / strips, kLineBytes)); }

  Asks asks_;
  const char *here_, *next_, *second_;
  Index strips_, panel_, panel_stride_;  // bytes of a panel, and from one to the next
  Index share_, asked_ = 0;              // bytes a depth; of the panel `next_`
};

// Over so few depths, as attention's scores are, a strip asks for the first lines of the next one's rows: 5 % at
// 8,12,128,128,64, 2 to 7 % at 32,12,32,32,64, 1 % elsewhere; over more depths, nothing (Zen 4).
constexpr Index kShortDepth = 128;

// One strip, which asks for nothing of a next one.
template <class T, Adjacent adjacent> TFCORE_INLINE void multiply_strip(Tile<T>& t, int rows, Index vectors) {
  const T* const b = t.b;
  for (Index j = 0; j < vectors;) {
    const int v = widest_tile<T, adjacent>(rows, vectors - j);
    kTiles<T, adjacent>.at[rows][v](t);
    j += v;
    t.b = b + j / kPanelVectors<T> * t.panel_stride + j % kPanelVectors<T> * lanes<T>, t.c += v * lanes<T>;
    t.ahead.from += t.ahead.step * t.depth;
  }
}

// All of c; `t` is its first tile and becomes the others. (A copy, read as soon as it is put together, waits for all
// its fields: 3 % of a small call.) What is not packed asks for `t.ahead`, one tile after the other.
// (To ask for the lines of c before a strip writes them, and for the next strip's first lines of a, is 4 to 6 % for a
// thread by itself beside another program's, and between -2 and 4 % for the threads of a product, differently each
// day.)
template <class T, Adjacent adjacent>
void multiply_tiles(Tile<T>& t, std::int64_t rows, std::int64_t vectors, const Source<T>& source = {}) {
  const Strips strips(rows, vectors);
  const Asks asks = t.ahead.asks = choose_asks<T, adjacent>(source, rows, strips.count);
  if (!t.ahead.from) t.ahead.from = reinterpret_cast<const char*>(t.b);  // at hand; 0 would be looked for each time
  if (strips.count == 1 && !source.packed) return multiply_strip<T, adjacent>(t, int(rows), vectors);
  const T* const a = t.a;
  const T* const b = t.b;
  T* const c = t.c;
  const T* const c_scale = t.c_scale;
  const Index a_step = adjacent == Adjacent::depth ? t.a_stride : 1;
  const bool two = !kAsksForOwn && asks >= Asks::two_ahead;
  const bool of_next = two || (source.packed && strips.count > 1 && t.depth > 0);
  const Index widest = two ? kPanelVectors<T> : kTileVectors;
  const auto panel = [&](Index j) {  // of the vector j, counted on into what comes after the last
    return j < vectors || !source.after ? b + j / kPanelVectors<T> * t.panel_stride
                                        : source.after + (j - vectors) / kPanelVectors<T> * t.panel_stride;
  };
  for (Index j = 0; j < vectors;) {
    const int v = widest_tile<T, adjacent>(strips.widest(), min(vectors - j, widest));
    t.a = a, t.b = panel(j) + j % kPanelVectors<T> * lanes<T>, t.c = c + j * lanes<T>, t.c_scale = c_scale;
    NextColumn<T> next(asks, panel(j + v), panel(j + 2 * v), panels_of<T>(v), strips.count, t);
    for (int i = 0; i < strips.count; ++i) {
      const Index size = strips.size(i);
      if (of_next) next.ask_in_strip(i, t.ahead);
      if (adjacent == Adjacent::depth && t.depth <= kShortDepth)
        for (Index r = 0; r < size; ++r) __builtin_prefetch(t.a + (size + r) * a_step, 0, 3);
      kTiles<T, adjacent>.at[size][v](t);
      t.a += size * a_step, t.c += size * t.c_stride, t.ahead.from += t.ahead.step * t.depth;
      if (c_scale) t.c_scale += size;
    }
    j += v;
  }
}

}  // namespace
}  // namespace tfcore
