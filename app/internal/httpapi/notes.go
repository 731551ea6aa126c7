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

// tags is a list whose decoding stops when it has too many elements: a list of empty strings takes
// many times more memory than it has bytes on the wire.
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

func (h *handlers) createNote(c *gin.Context) error {
	var body noteBody
	if err := decode(c, &body); err != nil {
		return err
	}
	key, err := idempotencyKey(c)
	if err != nil {
		return err
	}
	var note notes.Note
	repeated := false
	if key == "" {
		note, err = h.Notes.Create(c.Request.Context(), identity(c), body.text())
	} else {
		note, repeated, err = h.Notes.CreateIdempotent(c.Request.Context(), identity(c), key, body.text())
	}
	if err != nil {
		return err
	}
	if repeated {
		c.Header("Idempotent-Replayed", "true")
	}
	c.Set(auditObjectKey, note.ID)
	h.setETag(c, note.Revision)
	c.Header("Location", "/api/notes/"+note.ID)
	c.JSON(http.StatusCreated, gin.H{"id": note.ID, "created_at": note.CreatedAt.UTC()})
	return nil
}

func (h *handlers) getNote(c *gin.Context) error {
	id, err := noteID(c)
	if err != nil {
		return err
	}
	memory := &reservation{pool: h.answers, user: identity(c).Owner}
	defer memory.release()
	note, err := h.Notes.GetWithin(c.Request.Context(), identity(c), id, memory)
	if err != nil {
		return err
	}
	h.setETag(c, note.Revision)
	c.JSON(http.StatusOK, newNoteAnswer(note))
	return nil
}

func (h *handlers) listNotes(c *gin.Context) error {
	limit, cursor, err := pageParameters(c)
	if err != nil {
		return err
	}
	list, err := h.Notes.List(c.Request.Context(), identity(c), cursor, limit+1)
	if err != nil {
		return err
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
	return nil
}

func (h *handlers) updateNote(c *gin.Context) error {
	id, err := noteID(c)
	if err != nil {
		return err
	}
	var body noteBody
	if err := decode(c, &body); err != nil {
		return err
	}
	revision, err := h.ifMatch(c, id)
	if err != nil {
		return err
	}
	note, err := h.Notes.Update(c.Request.Context(), identity(c), id, revision, body.text())
	if err != nil {
		return err
	}
	h.setETag(c, note.Revision)
	c.JSON(http.StatusOK, gin.H{"id": note.ID, "updated_at": note.UpdatedAt.UTC()})
	return nil
}

func (h *handlers) deleteNote(c *gin.Context) error {
	id, err := noteID(c)
	if err != nil {
		return err
	}
	revision, err := h.ifMatch(c, id)
	if err != nil {
		return err
	}
	if err := h.Notes.Delete(c.Request.Context(), identity(c), id, revision); err != nil {
		return err
	}
	c.JSON(http.StatusOK, gin.H{"message": "Note deleted"})
	return nil
}

// pageParameters returns which page of a list the request asks for.
func pageParameters(c *gin.Context) (limit int, cursor string, err error) {
	for _, name := range []string{"limit", "cursor"} {
		if len(c.QueryArray(name)) > 1 {
			return 0, "", badRequest("Parameter " + name + " is given twice")
		}
	}
	limit = defaultPage
	if text, given := c.GetQuery("limit"); given {
		limit, err = strconv.Atoi(text)
		if err != nil || limit < 1 || limit > maxPage {
			return 0, "", badRequest(fmt.Sprintf("Parameter limit must be 1 to %d", maxPage))
		}
	}
	// A cursor is the id of the last note of the previous page: ids are in the order of creation.
	cursor = c.Query("cursor")
	if cursor != "" && !isCanonicalUUID(cursor) {
		return 0, "", badRequest("Parameter cursor must be the next_cursor of the previous page")
	}
	return limit, cursor, nil
}

// noteID returns the note's id from the path. No note has an id that is not a UUID. The error is
// not notes.ErrNotFound, which would be evidence of a live session.
func noteID(c *gin.Context) (string, error) {
	id := c.Param("id")
	if !isCanonicalUUID(id) {
		return "", notFound("Note not found")
	}
	return id, nil
}

// isCanonicalUUID reports whether text is a UUID in the form that the service returns. Other forms
// are refused because SQLite compares ids as text.
func isCanonicalUUID(text string) bool {
	id, err := uuid.Parse(text)
	return err == nil && id.String() == text
}

// maxIdempotencyKey is in bytes.
const maxIdempotencyKey = 255

// idempotencyKey returns the client's key for a request that it may retry, or an empty string if
// the request has none.
func idempotencyKey(c *gin.Context) (string, error) {
	values := c.Request.Header.Values("Idempotency-Key")
	if len(values) == 0 {
		return "", nil
	}
	key := values[0]
	printable := strings.IndexFunc(key, func(r rune) bool { return r < '!' || r > '~' }) < 0
	if len(values) > 1 || key == "" || len(key) > maxIdempotencyKey || !printable {
		return "", badRequest(fmt.Sprintf("Header Idempotency-Key must be one value of 1 to %d printable ASCII characters", maxIdempotencyKey))
	}
	return key, nil
}
