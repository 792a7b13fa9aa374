/* Short names for the items of blockcast.h. */
#include "blockcast.h"

typedef bc_text text;
typedef bc_area area;
typedef bc_record record;
typedef bc_loan loan;
typedef bc_subscription_options subscription_options;
typedef bc_size_class size_class;
typedef bc_publisher_options publisher_options;
typedef bc_subscription_stats subscription_stats;
typedef bc_publisher_stats publisher_stats;
typedef bc_direct_publisher direct;
typedef bc_host host;
typedef bc_app app;

enum {
    OK = BC_OK,
    BUSY = BC_BUSY,
    WRONG_SIZE = BC_WRONG_SIZE,
    DENIED = BC_DENIED,
    SCHEMA_MISMATCH = BC_SCHEMA_MISMATCH,
    CLOSED = BC_CLOSED,
    EXHAUSTED = BC_EXHAUSTED,
    TOO_LARGE = BC_TOO_LARGE,
    INVALID_PAYLOAD = BC_INVALID_PAYLOAD,
    INVALID_HANDLE = BC_INVALID_HANDLE,
    OUT_OF_BOUNDS = BC_OUT_OF_BOUNDS,
    LIMIT = BC_LIMIT,
    CANCELLED = BC_CANCELLED,
    PROGRESS = BC_WAKE_PROGRESS,
    TIMEOUT = BC_WAKE_TIMEOUT,
    SHUTDOWN = BC_WAKE_SHUTDOWN,
    WAKE_CANCELLED = BC_WAKE_CANCELLED,
};
#define FOREVER BC_FOREVER
#define VALID BC_VALID
