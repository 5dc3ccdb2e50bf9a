#include "kernels/math.hpp"
using namespace tfcore;
#define U(NAME) \
 extern "C" void NAME##_f(const float*x,float*y,long n){for(long i=0;i<n;i+=lanes<float>)store(y+i,NAME<float>(load(x+i)));}\
 extern "C" void NAME##_d(const double*x,double*y,long n){for(long i=0;i<n;i+=lanes<double>)store(y+i,NAME<double>(load(x+i)));}
U(exp2) U(exp2_nonpositive) U(exp) U(tanh) U(erf) U(gelu_erf) U(gelu_tanh) U(silu) U(sigmoid) U(relu)
extern "C" void sincos_d(const double*x,double*s,double*c,long n){for(long i=0;i<n;i+=lanes<double>){VecF64 a,b;sincos<double>(load(x+i),a,b);store(s+i,a);store(c+i,b);}}
extern "C" void sincos_f(const float*x,float*s,float*c,long n){for(long i=0;i<n;i+=lanes<float>){VecF32 a,b;sincos<float>(load(x+i),a,b);store(s+i,a);store(c+i,b);}}
extern "C" void sincos_n(const double*x,float*s,float*c,long n){for(long i=0;i<n;i+=lanes<float>){VecF32 a,b;sincos_narrow(load(x+i),load(x+i+lanes<double>),a,b);store(s+i,a);store(c+i,b);}}
