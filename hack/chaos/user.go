package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
)

// user is one account. Its writer alone writes; notes is read by its reader, too.
type user struct {
	load           *Load
	random         *rand.Rand
	name, password string

	// pending is a creation whose answer was lost: it is sent again until it is known.
	pending *creation

	mu    sync.Mutex
	token string
	// notes are all that there ever were, open those that are written to.
	notes, open []*note
}

type creation struct {
	key   string
	value Value
	note  *note
}

// note is one note as its writer knows it.
type note struct {
	id      string
	history *History
	// etag of the revision that the next write is to replace; empty: to be read first.
	etag string
	// uncertain says that a write with If-Match may take effect yet. A later one that is acknowledged settles it.
	uncertain bool
	// closed says that nothing more is written: it is deleted, or a write without If-Match may take effect yet.
	closed bool
}

func newUser(l *Load, seed uint64, i int) *user {
	random := rand.New(rand.NewPCG(seed, uint64(i)))
	return &user{load: l, random: random, name: accountName(random), password: password(random)}
}

// Names are random whatever the seed: a run may follow another one on the same service.
func accountName(*rand.Rand) string { return fmt.Sprintf("user-%x", rand.Uint64()) }

func password(random *rand.Rand) string {
	return fmt.Sprintf("%x-%x", random.Uint64(), random.Uint64())
}

// value is content of 1 to 4,000 characters, unlike any other, with a title that goes with it.
func value(random *rand.Rand) Value {
	name := fmt.Sprintf("%016x%016x", random.Uint64(), rand.Uint64())
	return Value{Title: "title of " + name, Content: name + strings.Repeat("·", random.IntN(2000))}
}

func (u *user) session() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.token
}

func (u *user) anywhere() Replica { return u.load.replica(u.random) }

// register makes the account. A conflict is with itself: an answer was lost.
func (u *user) register(ctx context.Context) error {
	a, err := u.load.until(ctx, u.anywhere, request{method: http.MethodPost, path: "/api/auth/register",
		body: map[string]string{"username": u.name, "password": u.password}})
	if err == nil && a.status != http.StatusCreated && a.status != http.StatusConflict {
		err = fmt.Errorf("register: status %d: %s", a.status, a.body.Error)
		u.load.violation("%v", err)
	}
	return err
}

func (u *user) signIn(ctx context.Context) error {
	a, err := u.load.until(ctx, u.anywhere, request{method: http.MethodPost, path: "/api/auth/login",
		body: map[string]string{"username": u.name, "password": u.password}})
	if err == nil && a.status != http.StatusOK {
		err = fmt.Errorf("the registered user %s cannot log in: status %d: %s", u.name, a.status, a.body.Error)
		u.load.violation("%v", err)
	}
	if err != nil {
		return err
	}
	u.load.signIns.Add(1)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.token = a.body.Token
	return nil
}

// again signs in again after a session has ended.
func (u *user) again(ctx context.Context) {
	if !u.load.options.SessionsEnd {
		u.load.violation("a session of user %s has ended", u.name)
	}
	_ = u.signIn(ctx) // the next request says so, too
}

// do sends a request of the user's to any replica.
func (u *user) do(ctx context.Context, random *rand.Rand, what request) (*answer, error) {
	what.token = u.session()
	a, err := u.load.replica(random).send(ctx, what)
	switch {
	case err != nil:
	case a.status == http.StatusUnauthorized:
		u.again(ctx)
	case a.status == http.StatusInternalServerError:
		u.load.violation("%s %s: status 500: %s", what.method, what.path, a.body.Error)
	}
	return a, err
}

// write is one step of the writer.
func (u *user) write(ctx context.Context, random *rand.Rand) {
	var open []*note
	for _, n := range u.notes {
		if !n.closed {
			open = append(open, n)
		}
	}
	u.mu.Lock()
	u.open = open
	u.mu.Unlock()
	switch {
	case u.pending != nil:
		u.create(ctx, random)
	case len(open) == 0 || len(open) < u.load.options.Notes && random.IntN(4) == 0:
		u.begin(random)
		u.create(ctx, random)
	default:
		u.change(ctx, random, open[random.IntN(len(open))])
	}
}

func (u *user) begin(random *rand.Rand) {
	v := value(random)
	u.pending = &creation{key: v.Title[len("title of "):], value: v, note: &note{history: &History{}}}
	u.pending.note.history.Begin(v)
}

// create sends the pending creation. Its Idempotency-Key lets it be sent again.
func (u *user) create(ctx context.Context, random *rand.Rand) {
	c := u.pending
	a, err := u.do(ctx, random, request{method: http.MethodPost, path: "/api/notes", idempotencyKey: c.key, body: body(c.value)})
	u.load.writes.Add(1)
	switch {
	case effectOf(a, err) == acknowledged:
		c.note.history.Acknowledge(0)
		c.note.id, c.note.etag = a.body.ID, a.etag
		u.mu.Lock()
		u.notes = append(u.notes, c.note)
		u.mu.Unlock()
		u.pending = nil
	case err == nil && a.status < 500 && a.status != http.StatusTooManyRequests && a.status != http.StatusUnauthorized:
		u.load.violation("create: status %d: %s", a.status, a.body.Error)
		u.pending = nil
	default:
		u.load.unknowns.Add(1)
	}
}

func body(v Value) map[string]string {
	return map[string]string{"title": v.Title, "content": v.Content}
}

// change updates or deletes a note, with If-Match or without.
func (u *user) change(ctx context.Context, random *rand.Rand, n *note) {
	if n.etag == "" {
		u.readNote(ctx, random, n)
		return
	}
	what := request{method: http.MethodPut, path: "/api/notes/" + n.id, ifMatch: n.etag}
	v := value(random)
	if !n.uncertain && random.IntN(10) == 0 {
		what.method, v = http.MethodDelete, Value{Gone: true}
	} else {
		what.body = body(v)
	}
	conditional := n.uncertain || random.IntN(3) > 0
	if !conditional {
		what.ifMatch = ""
	}
	number := n.history.Begin(v)
	a, err := u.do(ctx, random, what)
	u.load.writes.Add(1)
	switch effectOf(a, err) {
	case acknowledged:
		n.history.Acknowledge(number)
		n.etag, n.uncertain, n.closed = a.etag, false, v.Gone
	case refused:
		if err := n.history.Refuse(number); err != nil {
			u.load.violation("note %s: %v", n.id, err)
		}
		if a.status == http.StatusPreconditionFailed && !n.uncertain {
			u.load.violation("note %s has another revision than %s, and nobody else has written", n.id, n.etag)
		}
		n.etag = ""
	case unknown:
		u.load.unknowns.Add(1)
		n.etag, n.uncertain, n.closed = "", conditional, !conditional
	}
}

// read is one step of the reader: mostly of notes that are being written, the deleted ones now and then.
func (u *user) read(ctx context.Context, random *rand.Rand) {
	u.mu.Lock()
	from := u.open
	if len(from) == 0 || random.IntN(4) == 0 {
		from = u.notes
	}
	u.mu.Unlock()
	if len(from) == 0 {
		return
	}
	n := from[random.IntN(len(from))]
	least := n.history.BeginRead()
	a, err := u.do(ctx, random, request{method: http.MethodGet, path: "/api/notes/" + n.id})
	u.load.reads.Add(1)
	if !u.given(n, least, a, err) {
		u.load.unanswered.Add(1)
	}
}

// given checks the answer to a read, and says whether there was one.
func (u *user) given(n *note, least int, a *answer, err error) bool {
	var v Value
	switch {
	case err == nil && a.status == http.StatusOK:
		v = Value{Title: a.body.Title, Content: a.body.Content}
	case err == nil && a.status == http.StatusNotFound:
		v = Value{Gone: true}
	default:
		return false
	}
	if err := n.history.EndRead(least, v); err != nil {
		u.load.violation("note %s of %s: %v", n.id, u.name, err)
	}
	return true
}

// readNote is a read by the writer, who learns the note's revision by it.
func (u *user) readNote(ctx context.Context, random *rand.Rand, n *note) {
	least := n.history.BeginRead()
	a, err := u.do(ctx, random, request{method: http.MethodGet, path: "/api/notes/" + n.id})
	if u.given(n, least, a, err) {
		n.etag, n.closed = a.etag, a.status == http.StatusNotFound
	}
}
