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

// user is one account. Only its writer writes; its reader also reads notes.
type user struct {
	load           *Load
	random         *rand.Rand
	name, password string

	// pending is a creation whose answer was lost: it is repeated until its effect is known.
	pending *creation

	mu    sync.Mutex
	token string
	// notes are all notes that the user has ever had, and open those that the user still changes.
	notes, open []*note
}

type creation struct {
	key   string
	value Value
	note  *note
}

// note is a note and what its writer knows about it.
type note struct {
	id      string
	history *History
	// etag identifies the revision that the next write replaces. If empty, the note has to be read
	// first.
	etag string
	// uncertain is true while a write with If-Match may still take effect. A later acknowledged
	// write ends this.
	uncertain bool
	// closed is true if the note is not changed any more: it is deleted, or a write without
	// If-Match may still take effect.
	closed bool
}

func newUser(l *Load, seed uint64, i int) *user {
	random := rand.New(rand.NewPCG(seed, uint64(i)))
	return &user{load: l, random: random, name: accountName(random), password: password(random)}
}

// accountName returns a random name that does not depend on the seed, because another run may
// follow on the same service.
func accountName(*rand.Rand) string { return fmt.Sprintf("user-%x", rand.Uint64()) }

func password(random *rand.Rand) string {
	return fmt.Sprintf("%x-%x", random.Uint64(), random.Uint64())
}

// value returns a unique content of 1 to 4,000 characters, with a title that belongs to it.
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

// register creates the account. A conflict means that an earlier attempt succeeded and its answer
// was lost.
func (u *user) register(ctx context.Context) error {
	err := u.load.until(ctx, u.anywhere, func(ctx context.Context, c *notesclient.Client) error {
		return c.Register(ctx, u.name, u.password)
	})
	if notesclient.Status(err) == http.StatusConflict {
		return nil
	}
	if err != nil && conclusive(err) {
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
	if err != nil && conclusive(err) {
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
	_ = u.signIn(ctx) // the next request reports an error, too
}

// do makes a call to a random replica in the user's session.
func (u *user) do(ctx context.Context, random *rand.Rand, do call) error {
	err := u.load.send(ctx, u.load.replica(random).WithToken(u.session()), do)
	if notesclient.Status(err) == http.StatusUnauthorized {
		u.again(ctx)
	}
	return err
}

// get reads a note from a random replica.
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

// create sends the pending creation. Its Idempotency-Key makes it safe to repeat.
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
	case conclusive(err) && notesclient.Status(err) != http.StatusUnauthorized:
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

// read is one step of the reader. It mostly reads notes that are being changed, and sometimes
// deleted ones.
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

// given checks the answer to a read, and reports whether the read was answered.
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

// readNote reads a note for its writer, who needs the note's revision.
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
