package httpapi

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"

	"github.com/securenotes/securenotes/app/internal/notes"
)

// Limits of a page of notes.
const defaultPage, maxPage = 50, 200

type noteBody struct {
	Content string `json:"content"`
	Title   string `json:"title"`
	Tags    tags   `json:"tags"`
}

// tags stop being decoded when there are too many: a list of empty strings would need many times the
// memory that it takes on the wire.
type tags []string

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (t *tags) UnmarshalJSONFrom(decoder *jsontext.Decoder) error {
	if kind := decoder.PeekKind(); kind != '[' {
		return json.UnmarshalDecode(decoder, (*[]string)(t)) // null, or the usual error
	}
	if _, err := decoder.ReadToken(); err != nil {
		return err
	}
	for decoder.PeekKind() != ']' {
		if len(*t) == notes.MaxTags {
			return notes.ErrInvalidTags
		}
		var tag string
		if err := json.UnmarshalDecode(decoder, &tag); err != nil {
			return err
		}
		*t = append(*t, tag)
	}
	_, err := decoder.ReadToken()
	return err
}

func (b noteBody) text() notes.Text {
	return notes.Text{Content: b.Content, Title: b.Title, Tags: b.Tags}
}

type noteAnswer struct {
	ID        string    `json:"id"`
	Content   string    `json:"content"`
	Title     string    `json:"title,omitempty"`
	Tags      []string  `json:"tags,omitempty"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
}

func newNoteAnswer(n notes.Note) noteAnswer {
	return noteAnswer{
		ID: n.ID, Content: n.Content, Title: n.Title, Tags: n.Tags,
		CreatedAt: n.CreatedAt.UTC(), UpdatedAt: n.UpdatedAt.UTC(),
	}
}

type summaryAnswer struct {
	ID        string    `json:"id"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
}

func (h *handlers) createNote(c *gin.Context) {
	var body noteBody
	if !decode(c, &body) {
		return
	}
	var (
		note     notes.Note
		repeated bool
		err      error
	)
	if key, given := idempotencyKey(c); !given {
		note, err = h.Notes.Create(c.Request.Context(), identity(c), body.text())
	} else if key != "" {
		note, repeated, err = h.Notes.CreateIdempotent(c.Request.Context(), identity(c), key, body.text())
	} else {
		return
	}
	if err != nil {
		h.failWith(c, err)
		return
	}
	if repeated {
		c.Header("Idempotent-Replayed", "true")
	}
	c.Set(auditObjectKey, note.ID)
	setETag(c, note.Revision)
	c.Header("Location", "/api/notes/"+note.ID)
	c.JSON(http.StatusCreated, gin.H{"id": note.ID, "created_at": note.CreatedAt.UTC()})
}

func (h *handlers) getNote(c *gin.Context) {
	id, ok := noteID(c)
	if !ok {
		return
	}
	opened := &room{of: h.answers, user: identity(c).Owner}
	defer opened.leave()
	note, err := h.Notes.GetWithin(c.Request.Context(), identity(c), id, opened)
	if err != nil {
		h.failWith(c, err)
		return
	}
	setETag(c, note.Revision)
	c.JSON(http.StatusOK, newNoteAnswer(note))
}

func (h *handlers) listNotes(c *gin.Context) {
	limit := defaultPage
	for _, name := range []string{"limit", "cursor"} {
		if len(c.QueryArray(name)) > 1 {
			fail(c, http.StatusBadRequest, "Parameter "+name+" is given twice")
			return
		}
	}
	if text, given := c.GetQuery("limit"); given {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxPage {
			fail(c, http.StatusBadRequest, fmt.Sprintf("Parameter limit must be 1 to %d", maxPage))
			return
		}
		limit = n
	}
	// A cursor is the id of the last note of the page before: ids are in the order of creation.
	cursor := c.Query("cursor")
	if cursor != "" && !canonicalUUID(cursor) {
		fail(c, http.StatusBadRequest, "Parameter cursor must be the next_cursor of the page before")
		return
	}
	list, err := h.Notes.List(c.Request.Context(), identity(c), cursor, limit+1)
	if err != nil {
		h.failWith(c, err)
		return
	}
	answer := struct {
		Notes      []summaryAnswer `json:"notes"`
		NextCursor string          `json:"next_cursor,omitempty"`
	}{Notes: []summaryAnswer{}}
	if len(list) > limit {
		list = list[:limit]
		answer.NextCursor = list[limit-1].ID
	}
	for _, n := range list {
		answer.Notes = append(answer.Notes, summaryAnswer{n.ID, n.CreatedAt, n.UpdatedAt})
	}
	c.JSON(http.StatusOK, answer)
}

func (h *handlers) updateNote(c *gin.Context) {
	id, ok := noteID(c)
	if !ok {
		return
	}
	var body noteBody
	if !decode(c, &body) {
		return
	}
	revision, ok := h.ifMatch(c, id)
	if !ok {
		return
	}
	note, err := h.Notes.Update(c.Request.Context(), identity(c), id, revision, body.text())
	if err != nil {
		h.failWith(c, err)
		return
	}
	setETag(c, note.Revision)
	c.JSON(http.StatusOK, gin.H{"id": note.ID, "updated_at": note.UpdatedAt.UTC()})
}

func (h *handlers) deleteNote(c *gin.Context) {
	id, ok := noteID(c)
	if !ok {
		return
	}
	revision, ok := h.ifMatch(c, id)
	if !ok {
		return
	}
	if err := h.Notes.Delete(c.Request.Context(), identity(c), id, revision); err != nil {
		h.failWith(c, err)
		return
	}
	c.JSON(http.StatusOK, gin.H{"message": "Note deleted"})
}

// noteID is the path's note id. What is no id is no note either.
func noteID(c *gin.Context) (string, bool) {
	id := c.Param("id")
	if !canonicalUUID(id) {
		fail(c, http.StatusNotFound, "Note not found")
		return "", false
	}
	return id, true
}

// canonicalUUID accepts the one form that we give out: SQLite compares ids as text.
func canonicalUUID(text string) bool {
	id, err := uuid.Parse(text)
	return err == nil && id.String() == text
}

// maxIdempotencyKey is in bytes.
const maxIdempotencyKey = 255

// idempotencyKey is the client's key for a request that it may send again. On a key that cannot be one it
// has answered, and returns none.
func idempotencyKey(c *gin.Context) (key string, given bool) {
	values := c.Request.Header.Values("Idempotency-Key")
	if len(values) == 0 {
		return "", false
	}
	key = values[0]
	printable := strings.IndexFunc(key, func(r rune) bool { return r < '!' || r > '~' }) < 0
	if len(values) > 1 || key == "" || len(key) > maxIdempotencyKey || !printable {
		fail(c, http.StatusBadRequest, fmt.Sprintf("Header Idempotency-Key must be one value of 1 to %d printable ASCII characters", maxIdempotencyKey))
		return "", true
	}
	return key, true
}
