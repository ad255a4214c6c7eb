"""A program whose task prints what it likes."""

import json

for line in (3, [1], None, "words", {"type": "step", "epoch": 2}, {"type": "step", "stage": "s", "subject": "", "what": "done"}):
    print(json.dumps(line))  # noqa: T201
print("epoch 1 of 3")  # noqa: T201
print(json.dumps({"result": {"passed": True}}))  # noqa: T201
