"""Errors of libraries as one line."""

import json

from torch.utils.data import DataLoader

from mmfmkt.utils.error_messages import format_error


def test_errors_of_dataloader_workers_are_those_of_the_dataset():
    # PyTorch cannot construct an error of this class from a message.
    loader = DataLoader(
        ['{'], collate_fn=lambda x: json.loads(x[0]), num_workers=1
    )
    try:
        list(loader)
    except Exception as error:
        line = format_error(error, {})
    assert line.startswith('json.decoder.JSONDecodeError: Expecting property')
