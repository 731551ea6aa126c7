package httpapi

import (
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/securenotes/securenotes/app/internal/accounts"
)

type credentials struct {
	Username string `json:"username"`
	Password string `json:"password"`
}

func (h *handlers) register(c *gin.Context) error {
	var body credentials
	if err := decode(c, &body); err != nil {
		return err
	}
	c.Set(auditUsernameKey, body.Username)
	if err := h.Accounts.Register(c.Request.Context(), c.ClientIP(), body.Username, body.Password); err != nil {
		return err
	}
	c.JSON(http.StatusCreated, gin.H{"message": "User registered successfully"})
	return nil
}

func (h *handlers) login(c *gin.Context) error {
	var body struct {
		credentials
		Code string `json:"code"`
	}
	if err := decode(c, &body); err != nil {
		return err
	}
	if body.Username == "" || body.Password == "" {
		return badRequest("Missing credentials")
	}
	c.Set(auditUsernameKey, body.Username)
	login, err := h.Accounts.Login(c.Request.Context(), c.ClientIP(), accounts.Credentials{
		Username: body.Username, Password: body.Password, Code: body.Code,
	})
	if err != nil {
		return err
	}
	c.Set(auditUserKey, login.Owner)
	c.Set(auditFactorKey, string(login.Factor))
	token, err := h.Tokens.Encode(login.Session)
	if err != nil {
		return err
	}
	c.JSON(http.StatusOK, gin.H{"token": token, "expires_at": login.ExpiresAt.UTC().Format(time.RFC3339)})
	return nil
}

func (h *handlers) logout(c *gin.Context) error {
	if err := h.Accounts.Logout(c.Request.Context(), identity(c)); err != nil {
		return err
	}
	c.JSON(http.StatusOK, gin.H{"message": "Logged out"})
	return nil
}
