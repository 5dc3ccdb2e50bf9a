F="-O3 -std=c++17 -ffp-contract=off -Wno-psabi -Wno-ignored-attributes -fno-math-errno -fno-trapping-math -Wall -Wextra -Wno-unused-function -I/work/main/csrc -fPIC"
H=${1:-}
for v in "v2 16 16" "v3 32 16" "v4 64 32"; do set -- $v
g++ $F $H -march=x86-64-$1 -DTFCORE_VEC_BYTES=$2 -DTFCORE_VEC_REGISTERS=$3 -shared k.cpp -o k_$1.so || exit 1; done
