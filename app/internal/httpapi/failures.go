package httpapi

import (
	"log/slog"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
)

// maxFailures is how many failures of one kind are logged in a minute. Clients can provoke them,
// and while the database is unavailable every request fails.
const maxFailures = 10

// failures logs requests that have failed: up to maxFailures a minute with the same message and
// route. It is safe for concurrent use.
type failures struct {
	to  *slog.Logger
	now func() time.Time

	mu sync.Mutex
	// kinds has few entries: the messages of this package for each route.
	kinds map[failure]*logged
}

type failure struct{ message, route string }

type logged struct {
	since time.Time
	// lines counts the lines since then, and omitted the failures since the last line.
	lines, omitted int
}

func newFailures(to *slog.Logger) *failures {
	return &failures{to: to, now: time.Now, kinds: map[failure]*logged{}}
}

func (f *failures) log(c *gin.Context, message string, err error) {
	f.logWith(c, message, "error", err.Error())
}

func (f *failures) logWith(c *gin.Context, message string, args ...any) {
	omitted, ok := f.admit(failure{message, route(c)})
	if !ok {
		return
	}
	args = append(args, "route", route(c), "request_id", c.GetString(requestIDKey))
	if omitted > 0 {
		args = append(args, "not_logged", omitted)
	}
	f.to.Error(message, args...)
}

// admit reports whether a failure is logged, and how many of its kind were omitted since the last
// line.
func (f *failures) admit(k failure) (omitted int, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.now()
	kind := f.kinds[k]
	if kind == nil {
		kind = &logged{since: now}
		f.kinds[k] = kind
	}
	if now.Sub(kind.since) >= time.Minute {
		kind.since, kind.lines = now, 0
	}
	if kind.lines >= maxFailures {
		kind.omitted++
		return 0, false
	}
	kind.lines++
	omitted, kind.omitted = kind.omitted, 0
	return omitted, true
}
