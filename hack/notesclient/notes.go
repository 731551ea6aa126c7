package notesclient

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
)

// Content is the text that a user writes into a note.
type Content struct {
	Content string   `json:"content"`
	Title   string   `json:"title,omitempty"`
	Tags    []string `json:"tags,omitempty"`
}

// Note is a stored note.
type Note struct {
	ID string `json:"id"`
	Content
	// ETag identifies the note's revision.
	ETag string `json:"-"`
}

// CreateNote creates a note.
func (c *Client) CreateNote(ctx context.Context, content Content) (*Note, error) {
	return c.CreateNoteIdempotent(ctx, content, "")
}

// CreateNoteIdempotent creates a note unless an earlier request with the same idempotency key has
// done so.
func (c *Client) CreateNoteIdempotent(ctx context.Context, content Content, idempotencyKey string) (*Note, error) {
	r := Request{Method: http.MethodPost, Path: "/api/notes", Body: content, IdempotencyKey: idempotencyKey}
	return c.note(ctx, r, http.StatusCreated, Note{Content: content})
}

// GetNote reads a note.
func (c *Client) GetNote(ctx context.Context, id string) (*Note, error) {
	return c.note(ctx, Request{Method: http.MethodGet, Path: notePath(id)}, http.StatusOK, Note{})
}

// UpdateNote replaces a note. ifMatch is the ETag of the revision to replace; empty means any.
func (c *Client) UpdateNote(ctx context.Context, id string, content Content, ifMatch string) (*Note, error) {
	r := Request{Method: http.MethodPut, Path: notePath(id), Body: content, IfMatch: ifMatch}
	return c.note(ctx, r, http.StatusOK, Note{Content: content})
}

// DeleteNote deletes a note. ifMatch is as in [Client.UpdateNote].
func (c *Client) DeleteNote(ctx context.Context, id, ifMatch string) error {
	_, err := c.call(ctx, Request{Method: http.MethodDelete, Path: notePath(id), IfMatch: ifMatch}, http.StatusOK, nil)
	return err
}

// note sends a request whose answer contains a part of a note, and decodes it into n, which has the
// other part.
func (c *Client) note(ctx context.Context, r Request, want int, n Note) (*Note, error) {
	a, err := c.call(ctx, r, want, &n)
	if err != nil {
		return nil, err
	}
	n.ETag = a.Header.Get("ETag")
	return &n, nil
}

func notePath(id string) string { return "/api/notes/" + url.PathEscape(id) }

// Page is one page of the list of notes.
type Page struct {
	Notes []Listed `json:"notes"`
	// NextCursor is the cursor of the next page, or "" on the last page.
	NextCursor string `json:"next_cursor"`
}

// Listed is an entry of the list of notes.
type Listed struct {
	ID string `json:"id"`
}

// ListNotes returns a page of the user's notes. A limit of 0 means the service's default, and an
// empty cursor the first page.
func (c *Client) ListNotes(ctx context.Context, limit int, cursor string) (*Page, error) {
	query := url.Values{}
	if limit > 0 {
		query.Set("limit", fmt.Sprint(limit))
	}
	if cursor != "" {
		query.Set("cursor", cursor)
	}
	path := "/api/notes"
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	page := &Page{}
	if _, err := c.call(ctx, Request{Method: http.MethodGet, Path: path}, http.StatusOK, page); err != nil {
		return nil, err
	}
	return page, nil
}
