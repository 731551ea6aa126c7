package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"

	"github.com/securenotes/securenotes/hack/notesclient"
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

func (u *user) anywhere() *notesclient.Client { return u.load.replica(u.random) }

// register makes the account. A conflict is with itself: an answer was lost.
func (u *user) register(ctx context.Context) error {
	err := u.load.until(ctx, u.anywhere, func(ctx context.Context, c *notesclient.Client) error {
		return c.Register(ctx, u.name, u.password)
	})
	if notesclient.Status(err) == http.StatusConflict {
		return nil
	}
	if err != nil && telling(err) {
		u.load.violation("%v", err)
	}
	return err
}

func (u *user) signIn(ctx context.Context) error {
	var login *notesclient.Login
	err := u.load.until(ctx, u.anywhere, func(ctx context.Context, c *notesclient.Client) (err error) {
		login, err = c.Login(ctx, u.name, u.password)
		return err
	})
	if err != nil && telling(err) {
		err = fmt.Errorf("the registered user %s cannot log in: %w", u.name, err)
		u.load.violation("%v", err)
	}
	if err != nil {
		return err
	}
	u.load.signIns.Add(1)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.token = login.Token
	return nil
}

// again signs in again after a session has ended.
func (u *user) again(ctx context.Context) {
	if !u.load.options.SessionsEnd {
		u.load.violation("a session of user %s has ended", u.name)
	}
	_ = u.signIn(ctx) // the next request says so, too
}

// do makes a call in the user's session, at any replica.
func (u *user) do(ctx context.Context, random *rand.Rand, do call) error {
	err := u.load.send(ctx, u.load.replica(random).WithToken(u.session()), do)
	if notesclient.Status(err) == http.StatusUnauthorized {
		u.again(ctx)
	}
	return err
}

// get reads a note at any replica.
func (u *user) get(ctx context.Context, random *rand.Rand, n *note) (got *notesclient.Note, err error) {
	err = u.do(ctx, random, func(ctx context.Context, c *notesclient.Client) (err error) {
		got, err = c.GetNote(ctx, n.id)
		return err
	})
	return got, err
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
	pending := u.pending
	var created *notesclient.Note
	err := u.do(ctx, random, func(ctx context.Context, c *notesclient.Client) (err error) {
		created, err = c.CreateNoteIdempotent(ctx, contentOf(pending.value), pending.key)
		return err
	})
	u.load.writes.Add(1)
	switch {
	case err == nil:
		pending.note.history.Acknowledge(0)
		pending.note.id, pending.note.etag = created.ID, created.ETag
		u.mu.Lock()
		u.notes = append(u.notes, pending.note)
		u.mu.Unlock()
		u.pending = nil
	case telling(err) && notesclient.Status(err) != http.StatusUnauthorized:
		u.load.violation("%v", err)
		u.pending = nil
	default:
		u.load.unknowns.Add(1)
	}
}

func contentOf(v Value) notesclient.Content {
	return notesclient.Content{Title: v.Title, Content: v.Content}
}

// change updates or deletes a note, with If-Match or without.
func (u *user) change(ctx context.Context, random *rand.Rand, n *note) {
	if n.etag == "" {
		u.readNote(ctx, random, n)
		return
	}
	v := value(random)
	if !n.uncertain && random.IntN(10) == 0 {
		v = Value{Gone: true}
	}
	conditional, ifMatch := n.uncertain || random.IntN(3) > 0, n.etag
	if !conditional {
		ifMatch = ""
	}
	number := n.history.Begin(v)
	changed := &notesclient.Note{}
	err := u.do(ctx, random, func(ctx context.Context, c *notesclient.Client) (err error) {
		if v.Gone {
			return c.DeleteNote(ctx, n.id, ifMatch)
		}
		changed, err = c.UpdateNote(ctx, n.id, contentOf(v), ifMatch)
		return err
	})
	u.load.writes.Add(1)
	switch effectOf(err) {
	case acknowledged:
		n.history.Acknowledge(number)
		n.etag, n.uncertain, n.closed = changed.ETag, false, v.Gone
	case refused:
		if err := n.history.Refuse(number); err != nil {
			u.load.violation("note %s: %v", n.id, err)
		}
		if notesclient.Status(err) == http.StatusPreconditionFailed && !n.uncertain {
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
	got, err := u.get(ctx, random, n)
	u.load.reads.Add(1)
	if !u.given(n, least, got, err) {
		u.load.unanswered.Add(1)
	}
}

// given checks the answer to a read, and reports whether there was one.
func (u *user) given(n *note, least int, got *notesclient.Note, err error) bool {
	var v Value
	switch {
	case err == nil:
		v = Value{Title: got.Title, Content: got.Content.Content}
	case notesclient.Status(err) == http.StatusNotFound:
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
	got, err := u.get(ctx, random, n)
	if !u.given(n, least, got, err) {
		return
	}
	if n.closed = got == nil; !n.closed {
		n.etag = got.ETag
	}
}
