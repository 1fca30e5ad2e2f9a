// Names of C++: a namespace, a class, a template, an overload.
extern "C" {
#include "acceptor.h"
}

namespace shop {

struct Journal {
    SEPARATE int flush(long ms) {
        struct timespec time = {ms / 1000, ms % 1000 * 1000000};
        int failed = nanosleep(&time, nullptr);
        STAY();
        return failed;
    }
};

template <typename Kind>
SEPARATE int store(Kind &kind, long ms) {
    int failed = kind.flush(ms);
    STAY();
    return failed;
}

}  // namespace shop

int main(int count, char **arguments) {
    shop::Journal journal;
    accept_when_told(arguments[count - 1]);
    shop::store(journal, 500);
    tell(0, 0);
}
