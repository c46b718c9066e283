/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Reads the frame that all answers share, and single members of them. Pure: text in, values out.
 */
#include "proto/reply.h"

#define REPLY_DEPTH_MAX 16

void reply_copy_text(char *buf, size_t size, const char *text) {
        size_t n = strlen(text);

        if (n >= size) {
                n = size - 1;
                while (n > 0 && ((unsigned char) text[n] & 0xc0) == 0x80)
                        n--;
        }
        for (size_t i = 0; i < n; i++) {
                unsigned char c = (unsigned char) text[i];

                buf[i] = c < 0x20 || c == 0x7f ? '?' : text[i];
        }
        buf[n] = '\0';
}

static int error_read(json_object *error, ReplyError *ret) {
        *ret = (ReplyError){};
        if (!json_object_is_type(error, json_type_object))
                return -EBADMSG;
        if (reply_get_text(error, "class", ret->class, sizeof(ret->class)) < 0)
                ret->class[0] = '\0';
        if (reply_get_text(error, "desc", ret->text, sizeof(ret->text)) < 0)
                snprintf(ret->text, sizeof(ret->text), "no reason given");
        return -EREMOTEIO;
}

int reply_parse(const char *text, json_object **ret_root, json_object **ret_value, ReplyError *ret_error) {
        _cleanup_json_ json_object *root = NULL;
        json_object *value;
        json_tokener *t;
        size_t n = text ? strnlen(text, REPLY_TEXT_MAX + 1) : 0;

        if (n == 0)
                return -EBADMSG;
        if (n > REPLY_TEXT_MAX)
                return -E2BIG;
        t = json_tokener_new_ex(REPLY_DEPTH_MAX);
        if (!t)
                return -ENOMEM;
        root = json_tokener_parse_ex(t, text, (int) n);
        if (json_tokener_get_error(t) != json_tokener_success)
                root = NULL;   /* parse_ex() gave nothing that we own */
        json_tokener_free(t);
        if (!json_object_is_type(root, json_type_object))
                return -EBADMSG;
        if (json_object_object_get_ex(root, "error", &value))
                return error_read(value, ret_error);
        if (!json_object_object_get_ex(root, "return", &value))
                return -EBADMSG;
        *ret_value = value;
        *ret_root = TAKE_PTR(root);
        return 0;
}

int reply_get_number(json_object *o, const char *key, uint64_t max, uint64_t *ret) {
        json_object *v;
        int64_t n;

        if (!json_object_object_get_ex(o, key, &v))
                return -ENODATA;
        if (!json_object_is_type(v, json_type_int))
                return -EBADMSG;
        n = json_object_get_int64(v);   /* saturates, so what is too large for it is above max too */
        if (n < 0 || (uint64_t) n > max)
                return -EBADMSG;
        *ret = (uint64_t) n;
        return 0;
}

int reply_get_text(json_object *o, const char *key, char *buf, size_t size) {
        json_object *v;

        if (!json_object_object_get_ex(o, key, &v))
                return -ENODATA;
        if (!json_object_is_type(v, json_type_string))
                return -EBADMSG;
        reply_copy_text(buf, size, json_object_get_string(v));
        return 0;
}

int reply_get_list(json_object *o, const char *key, size_t max, json_object **ret, size_t *ret_n) {
        json_object *v;

        if (!json_object_object_get_ex(o, key, &v))
                return -ENODATA;
        if (!json_object_is_type(v, json_type_array) || json_object_array_length(v) > max)
                return -EBADMSG;
        *ret = v;
        *ret_n = json_object_array_length(v);
        return 0;
}

int request_to_text(json_object *request, char **ret) {
        _cleanup_json_ json_object *r = request;
        const char *text = r ? json_object_to_json_string_ext(r, JSON_C_TO_STRING_PLAIN) : NULL;
        char *copy = text ? strdup(text) : NULL;

        if (!copy)
                return -ENOMEM;
        *ret = copy;
        return 0;
}

int request_new(const char *command, json_object *arguments, char **ret) {
        json_object *request = json_object_new_object();

        if (!request) {
                json_object_put(arguments);
                return -ENOMEM;
        }
        if (json_object_object_add(request, "execute", json_object_new_string(command)) < 0 ||
            (arguments && json_object_object_add(request, "arguments", arguments) < 0)) {
                json_object_put(request);
                return -ENOMEM;
        }
        return request_to_text(request, ret);
}
