package httpapi

import (
	"log/slog"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
)

// maxFailures is how many failures of one kind are logged in a minute: clients can provoke them,
// and while a database is away every request is one.
const maxFailures = 10

// failures logs requests that have failed, those of one message and route up to maxFailures times a
// minute. It is safe for concurrent use.
type failures struct {
	to  *slog.Logger
	now func() time.Time

	mu sync.Mutex
	// kinds are of messages in this package and of routes: few.
	kinds map[failure]*logged
}

type failure struct{ message, route string }

type logged struct {
	since time.Time
	// lines since then, and failures that had none since the line before.
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

// admit reports whether a failure has a line, and how many of its kind had none since the line
// before.
func (f *failures) admit(k failure) (omitted int, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.now()
	of := f.kinds[k]
	if of == nil {
		of = &logged{since: now}
		f.kinds[k] = of
	}
	if now.Sub(of.since) >= time.Minute {
		of.since, of.lines = now, 0
	}
	if of.lines >= maxFailures {
		of.omitted++
		return 0, false
	}
	of.lines++
	omitted, of.omitted = of.omitted, 0
	return omitted, true
}
