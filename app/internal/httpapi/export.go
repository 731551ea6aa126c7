package httpapi

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/securenotes/securenotes/app/internal/accounts"
	"github.com/securenotes/securenotes/app/internal/notes"
)

// maxExports bounds the exports under way, each of which holds exportSize bytes, and maxUserExports those of one
// user.
const maxExports, maxUserExports, exportSize = 4, 2, 5 << 20

// exportStall is how long an export waits for a client that reads nothing.
const exportStall = 30 * time.Second

// exportAccount streams everything of the user's as NDJSON: a line for the account, one for each
// note, and one for the end, whose absence tells that the export was cut off.
func (h *handlers) exportAccount(c *gin.Context) {
	e := &export{c: c, answer: c.Writer.(*heldAnswer), control: http.NewResponseController(c.Writer), lines: json.NewEncoder(c.Writer), query: h.RequestTimeout}
	err := h.export(c, e)
	switch {
	case err == nil:
	case e.begun:
		// The status is sent already: what is left is not to end as if all were there.
		h.failures.log(c, "export cut off", err)
		c.Abort()
	default:
		h.failWith(c, err)
	}
}

func (h *handlers) export(c *gin.Context, e *export) (err error) {
	if err := e.extend(2 * h.RequestTimeout); err != nil { // for the account and the first notes
		return err
	}
	if e.user, err = h.exportedUser(c); err != nil {
		return err
	}
	id := identity(c)
	if err := h.exports.take(id.Owner, 1); err != nil {
		return err
	}
	defer h.exports.give(id.Owner, 1)
	if err := h.Notes.Export(c.Request.Context(), id, h.RequestTimeout, e.page); err != nil {
		return err
	}
	return e.end()
}

func (h *handlers) exportedUser(c *gin.Context) (accounts.User, error) {
	ctx, cancel := context.WithTimeout(c.Request.Context(), h.RequestTimeout)
	defer cancel()
	return h.Accounts.User(ctx, identity(c))
}

// export is one that is under way.
type export struct {
	c       *gin.Context
	answer  *heldAnswer
	control *http.ResponseController
	lines   *json.Encoder
	user    accounts.User
	// query bounds each question to the database.
	query time.Duration
	begun bool
}

// extend gives the database the time given, and then the client its own, for the next line: an export of many
// notes to a slow reader is not cut off by the server's timeout for one answer. (That for a request ends with the
// request's body.)
func (e *export) extend(database time.Duration) error {
	return e.control.SetWriteDeadline(time.Now().Add(database + exportStall))
}

func (e *export) write(line any) error {
	if err := e.extend(0); err != nil {
		return err
	}
	return e.lines.Encode(line)
}

// begin is when the first notes have been read: until then an error has a status.
func (e *export) begin() error {
	if e.begun {
		return nil
	}
	if err := e.answer.stream(); err != nil {
		return err
	}
	e.begun = true
	e.c.Header("Content-Type", "application/x-ndjson")
	e.c.Header("Content-Disposition", `attachment; filename="securenotes-export.ndjson"`)
	e.c.Status(http.StatusOK)
	return e.write(gin.H{"type": "account", "id": e.user.ID, "username": e.user.Username, "created_at": e.user.CreatedAt})
}

// page sends notes at once, however few.
func (e *export) page(page []notes.Note) error {
	if err := e.begin(); err != nil {
		return err
	}
	for _, n := range page {
		line := struct {
			Type string `json:"type"`
			noteAnswer
		}{"note", newNoteAnswer(n)}
		if err := e.write(line); err != nil {
			return err
		}
		e.answer.notes++
	}
	if err := e.control.Flush(); err != nil {
		return err
	}
	return e.extend(e.query)
}

func (e *export) end() error {
	if err := e.begin(); err != nil {
		return err
	}
	if err := e.write(gin.H{"type": "end", "notes": e.answer.notes}); err != nil {
		return err
	}
	e.answer.whole = true
	return nil
}
